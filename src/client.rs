//! A blocking HTTP/1.1 client over one connection: for the demo and the load tool, which must cost less than the server.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body for a person to read.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }
}

/// Where requests of one kind go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    addr: SocketAddr,
    /// Method, path and the headers that do not change.
    head: String,
}

impl Target {
    pub(crate) fn new(addr: SocketAddr, method: &str, path: &str) -> Self {
        Self { addr, head: format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\n") }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The target of an `http://host[:port]/path` address, with a token where one is needed.
    pub(crate) fn parse(url: &str, method: &str, token: Option<&str>) -> io::Result<Self> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{url:?}: {why}"));
        let rest = url.strip_prefix("http://").ok_or_else(|| wrong("an address begins with http://"))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let has_port = authority.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
        let socket = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let addr = socket.to_socket_addrs().map_err(|error| wrong(&error.to_string()))?.next();
        let mut target = Self::new(
            addr.ok_or_else(|| wrong("the host has no address"))?,
            method,
            if path.is_empty() { "/" } else { path },
        );
        if let Some(token) = token {
            target.head.push_str("Authorization: Bearer ");
            target.head.push_str(token);
            target.head.push_str("\r\n");
        }
        Ok(target)
    }
}

/// One connection, opened again when the server has closed it.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    /// Head and body of a request: one write.
    message: Vec<u8>,
    line: String,
}

/// An answer that takes longer is an error.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: open(addr)?, message: Vec::new(), line: String::new() })
    }

    /// Sends a request and reads its answer; once more on a fresh connection where the old one was closed while idle.
    pub(crate) fn request(&mut self, target: &Target, body: &[u8]) -> io::Result<Answer> {
        match self.exchange(target, body) {
            Err(_) => {
                self.stream = open(target.addr)?;
                self.exchange(target, body)
            }
            answer => answer,
        }
    }

    fn exchange(&mut self, target: &Target, body: &[u8]) -> io::Result<Answer> {
        self.message.clear();
        write!(self.message, "{}Content-Length: {}\r\n\r\n", target.head, body.len())?;
        self.message.extend_from_slice(body);
        self.stream.get_mut().write_all(&self.message)?;
        let status = self.read_line()?.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| bad("status"))?;
        let (mut len, mut is_chunked) = (None, false);
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("header"))?;
            if name.eq_ignore_ascii_case("content-length") {
                len = Some(value.trim().parse().map_err(|_| bad("length"))?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                is_chunked = value.trim().eq_ignore_ascii_case("chunked");
            }
        }
        let mut body = Vec::new();
        if is_chunked {
            while self.read_chunk(&mut body)? {}
        } else if status != 204 {
            self.read_body(len.ok_or_else(|| bad("length"))?, &mut body)?;
        }
        Ok(Answer { status, body })
    }

    /// The next line, without its end.
    fn read_line(&mut self) -> io::Result<&str> {
        self.line.clear();
        if self.stream.read_line(&mut self.line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.line.trim_end())
    }

    /// Appends a chunk; `false` after the last.
    fn read_chunk(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let len = u64::from_str_radix(self.read_line()?, 16).map_err(|_| bad("chunk length"))?;
        self.read_body(len, body)?;
        self.read_line()?;
        Ok(len > 0)
    }

    fn read_body(&mut self, len: u64, body: &mut Vec<u8>) -> io::Result<()> {
        let read = (&mut self.stream).take(len).read_to_end(body)?;
        if read as u64 == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer has no {what} that can be read"))
}

fn open(addr: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::with_capacity(64 << 10, stream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What a client makes of these bytes, and what it had sent.
    fn exchanged(answer: &'static [u8]) -> (io::Result<Answer>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/api/write?cluster=a", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"cpu_load") {
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(answer).unwrap();
            request
        });
        let target = Target::parse(&url, "POST", Some("secret")).unwrap();
        let mut client = Client::connect(target.addr).unwrap();
        let answer = client.exchange(&target, b"cpu_load");
        (answer, server.join().unwrap())
    }

    #[test]
    fn a_request_has_its_length_and_token_and_an_answer_is_read_in_each_form() {
        for (bytes, status, body) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"[..], 200, "[]"),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n", 200, "[]"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ] {
            let (answer, request) = exchanged(bytes);
            let answer = answer.unwrap();
            assert_eq!((answer.status, answer.text()), (status, body.to_owned()));
            let request = String::from_utf8(request).unwrap();
            assert!(request.starts_with("POST /api/write?cluster=a HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
            assert!(request.ends_with("Bearer secret\r\nContent-Length: 8\r\n\r\ncpu_load"), "{request}");
        }
    }

    #[test]
    fn what_is_cut_or_is_no_answer_is_an_error() {
        for bytes in [
            &b""[..],
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[]",
        ] {
            assert!(exchanged(bytes).0.is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn only_plain_http_is_spoken() {
        assert!(Target::parse("https://127.0.0.1/", "GET", None).is_err());
        assert_eq!(Target::parse("http://127.0.0.1", "GET", None).unwrap().addr.port(), 80);
        assert_eq!(Target::parse("http://[::1]:81/x", "GET", None).unwrap().addr.port(), 81);
    }
}
