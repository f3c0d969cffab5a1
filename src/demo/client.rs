//! A minimal HTTP/1.1 client over one connection, for the demo's own server.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// One connection, opened again when the server has closed it.
#[derive(Debug)]
pub(super) struct Client {
    addr: SocketAddr,
    stream: BufReader<TcpStream>,
}

/// An answer that takes longer is an error.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Client {
    pub(super) fn connect(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self { addr, stream: open(addr)? })
    }

    /// Sends a request and reads its answer; once more on a fresh connection where the old one was closed while idle.
    pub(super) fn request(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        match self.exchange(method, path, body) {
            Err(_) => {
                self.stream = open(self.addr)?;
                self.exchange(method, path, body)
            }
            answer => answer,
        }
    }

    fn exchange(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", self.addr, body.len());
        self.stream.get_mut().write_all(format!("{head}{body}").as_bytes())?;
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the answer has no {what}"));
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| bad("status"))?;
        let mut len = None;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                len = value.trim().parse().ok();
            }
        }
        let mut body = vec![0; len.ok_or_else(|| bad("length"))?];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

fn open(addr: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}
