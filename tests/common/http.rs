//! A server of HTTP/1.1 on loopback that says what a test wants it to say, cut off or held back where the test wants that.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in small letters.
    pub headers: HashMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// `N` of `Range: bytes=N-`.
    pub fn from(&self) -> Option<usize> {
        self.header("range")
            .map(|range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap())
    }
}

/// What is answered: by default all of the body, with its length.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The length that is announced, if not the body's.
    pub announced: Option<usize>,
    /// In pieces without a length before them.
    pub chunked: bool,
    /// The connection is closed after so many bytes of the body.
    pub cut: Option<usize>,
    /// Nothing is sent after so many bytes of the body, and the connection stays open.
    pub stall: Option<usize>,
    /// Before the answer.
    pub pause: Duration,
}

impl Answer {
    pub fn status(status: u16) -> Answer {
        Answer { status, ..Answer::default() }
    }

    pub fn with(mut self, name: &'static str, value: impl ToString) -> Answer {
        self.headers.push((name, value.to_string()));
        self
    }

    fn write(&self, mut to: TcpStream, over: &AtomicBool) -> std::io::Result<()> {
        std::thread::sleep(self.pause);
        write!(to, "HTTP/1.1 {} Status\r\nConnection: close\r\n", self.status)?;
        for (name, value) in &self.headers {
            write!(to, "{name}: {value}\r\n")?;
        }
        let sent = self.cut.or(self.stall).unwrap_or(self.body.len()).min(self.body.len());
        match self.chunked {
            true => write!(to, "Transfer-Encoding: chunked\r\n\r\n")?,
            false => write!(to, "Content-Length: {}\r\n\r\n", self.announced.unwrap_or(self.body.len()))?,
        }
        for piece in self.body[..sent].chunks(10_000) {
            match self.chunked {
                true => {
                    write!(to, "{:x}\r\n", piece.len())?;
                    to.write_all(piece)?;
                    write!(to, "\r\n")?;
                }
                false => to.write_all(piece)?,
            }
        }
        if self.chunked && self.cut.is_none() && self.stall.is_none() {
            write!(to, "0\r\n\r\n")?;
        }
        to.flush()?;
        let began = Instant::now();
        while self.stall.is_some() && !over.load(Ordering::SeqCst) && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// A file as an honest server has it.
#[derive(Clone, Debug, Default)]
pub struct Hosted {
    pub body: Vec<u8>,
    pub etag: Option<&'static str>,
    pub modified: Option<&'static str>,
}

impl Hosted {
    pub fn new(body: impl Into<Vec<u8>>) -> Hosted {
        Hosted { body: body.into(), etag: Some("\"v1\""), modified: None }
    }

    /// With the range that was asked for, if it is still this version.
    pub fn answer(&self, request: &Request) -> Answer {
        let mut answer = Answer::status(200);
        answer.headers.extend(self.etag.map(|tag| ("ETag", tag.to_owned())));
        answer.headers.extend(self.modified.map(|date| ("Last-Modified", date.to_owned())));
        let same = request.header("if-range").is_none_or(|mark| self.etag == Some(mark) || self.modified == Some(mark));
        match request.from().filter(|_| same) {
            None => answer.body = self.body.clone(),
            Some(from) if from >= self.body.len() => answer.status = 416,
            Some(from) => {
                let last = self.body.len() - 1;
                answer = answer.with("Content-Range", format!("bytes {from}-{last}/{}", self.body.len()));
                (answer.status, answer.body) = (206, self.body[from..].to_vec());
            }
        }
        answer
    }
}

/// Answers until it is dropped.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    over: Arc<AtomicBool>,
}

impl Server {
    /// `answer` gets each request with the number of those before it; a proxy's `CONNECT` is recorded, granted, and not counted.
    pub fn new(answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (answer, seen, ended) = (Arc::new(answer), Arc::clone(&requests), Arc::clone(&over));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let (answer, seen, ended) = (Arc::clone(&answer), Arc::clone(&seen), Arc::clone(&ended));
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(request) = read(&mut reader) {
                        let connect = request.method == "CONNECT";
                        let before = {
                            let mut seen = seen.lock().unwrap();
                            let before = seen.iter().filter(|r: &&Request| r.method != "CONNECT").count();
                            seen.push(request.clone());
                            before
                        };
                        if connect {
                            (&stream).write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
                            continue;
                        }
                        // Whoever hangs up early has its reasons.
                        let _ = answer(&request, before).write(stream, &ended);
                        return;
                    }
                });
            }
        });
        Server { address, requests, over }
    }

    /// One that has a file and nothing else.
    pub fn hosting(file: Hosted) -> Server {
        Server::new(move |request, _| file.answer(request))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

fn read(from: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    from.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|n| *n > 0)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => _ = headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => return Some(Request { method, path, headers }),
        }
    }
}
