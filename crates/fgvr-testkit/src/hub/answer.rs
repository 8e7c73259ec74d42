//! Answers, whole or broken.

use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

/// What goes back to the client.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Arc<[u8]>,
    /// What `Content-Length` says, where it is not the truth.
    pub(super) stated_length: Option<usize>,
    pub(super) end: End,
}

/// How an answer ends.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum End {
    /// The connection is closed after the body.
    Close,
    /// The connection stays open after the body, and nothing more comes.
    Silence,
    /// Nothing comes at all.
    Nothing,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Arc<[u8]>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            stated_length: None,
            end: End::Close,
        }
    }

    pub(super) fn json(value: &serde_json::Value) -> Self {
        Self::new(200, value.to_string().into_bytes()).header("Content-Type", "application/json")
    }

    /// An error as the Hub sends it: a code for programs, a message for people.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let answer = Self::new(status, Vec::new()).header("X-Error-Message", message);
        if code.is_empty() {
            answer
        } else {
            answer.header("X-Error-Code", code)
        }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sends it; without its body where the request was `HEAD`.
    pub(super) fn send(&self, stream: &mut TcpStream, head: bool) -> Result<()> {
        if self.end != End::Nothing {
            let length = self.stated_length.unwrap_or(self.body.len());
            let mut text = format!(
                "HTTP/1.1 {} Loopback\r\nConnection: close\r\nContent-Length: {length}\r\n",
                self.status
            );
            for (name, value) in &self.headers {
                text += &format!("{name}: {value}\r\n");
            }
            text += "\r\n";
            stream.write_all(text.as_bytes())?;
            if !head {
                stream.write_all(&self.body)?;
            }
            stream.flush()?;
        }
        if self.end == End::Close {
            // Says that nothing more comes without throwing away what is still on its way.
            stream.shutdown(Shutdown::Write)?;
        }
        // Until the client goes.
        let mut rest = [0; 64];
        while stream.read(&mut rest)? > 0 {}
        Ok(())
    }
}
