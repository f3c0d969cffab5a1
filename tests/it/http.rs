//! A small blocking HTTP/1.1 client: keep-alive, GET with a body, answers with a length, in chunks or until the end.
//!
//! It says exactly what it is told to and hides nothing: no redirects, no retries, no added headers beyond `Host` and
//! `Content-Length`. A connection that the server wants closed is opened again by the next request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::clock::PATIENCE;

/// One answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header, if it was sent; several are joined by commas.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| &**value).collect();
        if values.is_empty() { None } else { Some(values.join(", ")) }
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One client: at most one connection, one request at a time.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A client that connects with its first request.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// Sends `body` to `path` and reads the answer.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        self.request("POST", path, &[], body)
    }

    /// Asks for `path`, with a body as the query endpoint wants it.
    pub(crate) fn get(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        self.request("GET", path, &[], body)
    }

    /// One request and its answer.
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut message = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address).into_bytes();
        for (name, value) in headers {
            write!(message, "{name}: {value}\r\n")?;
        }
        write!(message, "Content-Length: {}\r\n\r\n", body.len())?;
        message.extend_from_slice(body);
        self.exchange(&message, method == "HEAD")
    }

    /// Sends `message` as it is and reads one answer; `bodiless` answers have a head only.
    pub(crate) fn exchange(&mut self, message: &[u8], bodiless: bool) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(connect(self.address)?),
        };
        // A server may answer and close before it has read all of a body that it refuses: the answer counts.
        let sent = connection.get_mut().write_all(message);
        let answer = match (read_answer(&mut connection, bodiless), sent) {
            (Ok(answer), _) => answer,
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
        };
        let closes = answer.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !closes {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

/// A plain connection with the usual time limits.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads one answer from `input`, passing over interim ones.
pub(crate) fn read_answer(input: &mut impl BufRead, bodiless: bool) -> io::Result<Answer> {
    loop {
        let (status, headers) = read_head(input)?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        match status {
            100..200 => {}
            204 | 304 => return Ok(answer),
            _ if bodiless => return Ok(answer),
            _ => {
                answer.body = read_body(input, &answer)?;
                return Ok(answer);
            }
        }
    }
}

fn read_head(input: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let first = read_line(input)?;
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| malformed(&first))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(input)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read_body(input: &mut impl BufRead, answer: &Answer) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if answer.header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(input)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| malformed(&line))?;
            read_exactly(input, size, &mut body)?;
            if !read_line(input)?.is_empty() {
                return Err(malformed("a chunk without its end"));
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }
    match answer.header("Content-Length") {
        Some(length) => read_exactly(input, length.parse().map_err(|_| malformed(&length))?, &mut body)?,
        None => {
            input.read_to_end(&mut body)?;
        }
    }
    Ok(body)
}

fn read_exactly(input: &mut impl BufRead, size: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = input.take(size).read_to_end(body)?;
    if u64::try_from(read).is_ok_and(|read| read == size) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    String::from_utf8(line.to_vec()).map_err(|_| malformed("a head that is not UTF-8"))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed answer: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_lengths_are_kept() {
        let mut wire: &[u8] =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n\
            HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno";
        let first = read_answer(&mut wire, false).unwrap();
        assert_eq!((first.status, first.text().as_str()), (200, "abcde"));
        let second = read_answer(&mut wire, false).unwrap();
        assert_eq!((second.status, second.text().as_str()), (400, "no"));
    }

    #[test]
    fn a_body_that_ends_early_is_an_error() {
        let mut wire: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc";
        assert_eq!(read_answer(&mut wire, false).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
