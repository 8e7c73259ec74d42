//! The ways in which a server can be broken or hostile.

use super::answer::{Answer, End};
use super::http::Request;

/// Something that the loopback Hub does wrong. A `path` is any part of a request's path, a `file` a
/// name in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Answers requests for `path` with `status`, so many `times`, then well.
    Status {
        /// Part of the path.
        path: String,
        /// The status.
        status: u16,
        /// Further headers, such as `Retry-After` or `X-Error-Code`.
        headers: Vec<(String, String)>,
        /// How often.
        times: usize,
    },
    /// Never answers requests for `path`.
    Hang {
        /// Part of the path.
        path: String,
    },
    /// Sends requests for `path` elsewhere.
    Redirect {
        /// Part of the path.
        path: String,
        /// Where to: an address, or a path on this server.
        location: String,
    },
    /// Closes the connection after so many bytes of a content, so many `times`.
    Truncate {
        /// The file.
        file: String,
        /// Bytes sent.
        bytes: usize,
        /// How often.
        times: usize,
    },
    /// Sends so many bytes of a content and then nothing, with the connection open.
    Stall {
        /// The file.
        file: String,
        /// Bytes sent.
        bytes: usize,
    },
    /// Sends a content of this length, cut or filled up with zeros, and states it as right.
    Length {
        /// The file.
        file: String,
        /// Bytes sent.
        bytes: usize,
    },
    /// Sends another content.
    Content {
        /// The file.
        file: String,
        /// What is sent.
        content: Vec<u8>,
    },
    /// Sends every content whole, whatever range was asked for.
    IgnoreRange,
    /// States this as a file's hash in lists.
    Id {
        /// The file.
        file: String,
        /// What is stated.
        id: String,
    },
    /// Lists a file of this name too.
    List {
        /// The name.
        name: String,
    },
    /// Sends this as the tag of every content, and as that of what it is linked to.
    Etag {
        /// The tag, without quotes.
        value: String,
    },
    /// States this as the commit of every revision.
    Commit {
        /// What is stated.
        value: String,
    },
    /// Says that each list of files goes on at this address.
    NextPage {
        /// The address.
        address: String,
    },
    /// Sends this text where JSON is expected, for requests for `path`.
    Text {
        /// Part of the path.
        path: String,
        /// The text.
        text: String,
    },
}

/// The answer of a misbehaviour that takes the place of the true one.
pub(super) fn instead(all: &mut [Misbehaviour], request: &Request) -> Option<Answer> {
    all.iter_mut().find_map(|misbehaviour| match misbehaviour {
        Misbehaviour::Status {
            path,
            status,
            headers,
            times,
        } if *times > 0 && request.path.contains(path.as_str()) => {
            *times -= 1;
            let answer = Answer::error(*status, "", "told to misbehave");
            let add = |answer: Answer, (name, value): &(String, String)| {
                answer.header(name, value.as_str())
            };
            Some(headers.iter().fold(answer, add))
        }
        Misbehaviour::Hang { path } if request.path.contains(path.as_str()) => {
            let mut answer = Answer::new(200, Vec::new());
            answer.end = End::Nothing;
            Some(answer)
        }
        Misbehaviour::Redirect { path, location } if request.path.contains(path.as_str()) => {
            Some(Answer::new(302, Vec::new()).header("Location", location.as_str()))
        }
        Misbehaviour::Text { path, text } if request.path.contains(path.as_str()) => {
            Some(Answer::new(200, text.clone().into_bytes()))
        }
        _ => None,
    })
}

/// Changes the answer that carries the content of `file`.
pub(super) fn change(all: &mut [Misbehaviour], file: &str, head: bool, answer: &mut Answer) {
    for misbehaviour in all {
        match misbehaviour {
            Misbehaviour::Truncate {
                file: name,
                bytes,
                times,
            } if name == file && *times > 0 && !head => {
                *times -= 1;
                answer.stated_length = Some(answer.body.len());
                answer.body = answer.body[..(*bytes).min(answer.body.len())].into();
            }
            Misbehaviour::Stall { file: name, bytes } if name == file && !head => {
                answer.stated_length = Some(answer.body.len());
                answer.body = answer.body[..(*bytes).min(answer.body.len())].into();
                answer.end = End::Silence;
            }
            Misbehaviour::Etag { value } => {
                answer.headers.retain(|(name, _)| name != "ETag");
                answer.headers.push(("ETag".into(), format!("\"{value}\"")));
            }
            _ => {}
        }
    }
}
