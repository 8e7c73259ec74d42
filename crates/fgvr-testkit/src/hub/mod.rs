//! A Hugging Face Hub on the loopback interface, which also misbehaves.

mod answer;
mod api;
mod http;
mod misbehaviour;
mod store;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

pub use http::Request;
pub use misbehaviour::Misbehaviour;

use answer::Answer;
use store::Store;

/// A server that speaks as much of the Hub's protocol as fgvr and `huggingface_hub` use to fetch and
/// publish models, until it is dropped.
///
/// It serves repositories from memory: their commits, lists of files in pages of three, and contents.
/// As on the real Hub, large files are redirected to a second server, and small ones come straight;
/// here large are those whose name ends in `.safetensors`, `.bin`, `.pth` or `.tar`. It accepts
/// commits and new repositories and branches from whoever sends a token.
///
/// ```
/// use fgvr_testkit::{LoopbackHub, Misbehaviour};
///
/// let hub = LoopbackHub::start("owner/name", [("config.json", "{}")]);
/// hub.misbehave(Misbehaviour::Hang { path: "/resolve/".into() });
/// assert!(hub.endpoint().starts_with("http://127.0.0.1:"));
/// assert!(hub.requests().is_empty());
/// ```
pub struct LoopbackHub {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What both servers' threads see.
struct Shared {
    hub: SocketAddr,
    contents: SocketAddr,
    stopping: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    store: Store,
    misbehaviours: Vec<Misbehaviour>,
    requests: Vec<Request>,
}

impl LoopbackHub {
    /// Starts a Hub with one repository, `owner/name`, whose branch `main` has these files.
    ///
    /// # Panics
    /// If the system gives no port on the loopback interface.
    pub fn start<N: Into<String>, C: Into<Vec<u8>>>(
        repository: &str,
        files: impl IntoIterator<Item = (N, C)>,
    ) -> Self {
        let hub = Self::empty();
        hub.push(repository, files);
        hub
    }

    /// Starts a Hub without repositories.
    ///
    /// # Panics
    /// If the system gives no port on the loopback interface.
    #[must_use]
    pub fn empty() -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a port on the loopback interface");
        let listeners = [bind(), bind()];
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound port");
        let shared = Arc::new(Shared {
            hub: address(&listeners[0]),
            contents: address(&listeners[1]),
            stopping: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let threads = listeners.map(|listener| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.listen(&listener))
        });
        Self {
            shared,
            threads: threads.into(),
        }
    }

    /// The address for `HF_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.hub)
    }

    /// The address of the server that large contents come from.
    #[must_use]
    pub fn contents_endpoint(&self) -> String {
        format!("http://{}", self.shared.contents)
    }

    /// Commits these files, and no others, to `main` of `repository`, which is made where it does not
    /// exist; gives the commit.
    pub fn push<N: Into<String>, C: Into<Vec<u8>>>(
        &self,
        repository: &str,
        files: impl IntoIterator<Item = (N, C)>,
    ) -> String {
        let files = files
            .into_iter()
            .map(|(name, content)| (name.into(), content.into().into()))
            .collect();
        self.shared.state().store.push(repository, "main", files)
    }

    /// Gives a commit another name: a tag or branch.
    ///
    /// # Panics
    /// If there is no such repository.
    pub fn name_commit(&self, repository: &str, name: &str, commit: &str) {
        let mut state = self.shared.state();
        let repository = state.store.repositories.get_mut(repository);
        let repository = repository.expect("a repository to name a commit of");
        repository.refs.insert(name.to_owned(), commit.to_owned());
    }

    /// The commit that `revision` stands for.
    #[must_use]
    pub fn commit(&self, repository: &str, revision: &str) -> Option<String> {
        let state = self.shared.state();
        let repository = state.store.repositories.get(repository)?;
        repository.commit(revision).map(str::to_owned)
    }

    /// The content of a file, as the Hub has it.
    #[must_use]
    pub fn file(&self, repository: &str, revision: &str, name: &str) -> Option<Vec<u8>> {
        let state = self.shared.state();
        let repository = state.store.repositories.get(repository)?;
        let files = &repository.commits[repository.commit(revision)?];
        files.get(name).map(|content| content.to_vec())
    }

    /// Whether a repository is private: it then shows itself to those with a token only.
    #[must_use]
    pub fn is_private(&self, repository: &str) -> bool {
        let state = self.shared.state();
        let repository = state.store.repositories.get(repository);
        repository.is_some_and(|repository| repository.private)
    }

    /// From now on behaves so, besides what it was told before.
    pub fn misbehave(&self, misbehaviour: Misbehaviour) {
        self.shared.state().misbehaviours.push(misbehaviour);
    }

    /// From now on behaves well.
    pub fn behave(&self) {
        self.shared.state().misbehaviours.clear();
    }

    /// All requests so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }
}

impl Drop for LoopbackHub {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for address in [self.shared.hub, self.shared.contents] {
            // Wakes the listener; where that fails it has gone already.
            let _ = TcpStream::connect(address);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            if let Ok(stream) = stream {
                let shared = Arc::clone(self);
                // Not joined: a thread that hangs ends when its client goes.
                std::thread::spawn(move || shared.serve(stream));
            }
        }
    }

    fn serve(&self, mut stream: TcpStream) {
        let to_contents = stream.local_addr().is_ok_and(|to| to == self.contents);
        // A client that goes away in the middle is what many tests are about.
        let Ok(Some(request)) = http::read(&mut stream, to_contents) else {
            return;
        };
        let answer = {
            let mut state = self.state();
            state.requests.push(request.clone());
            self.answer(&mut state, &request)
        };
        let _ = answer.send(&mut stream, request.method == "HEAD");
    }

    fn answer(&self, state: &mut State, request: &Request) -> Answer {
        if let Some(answer) = misbehaviour::instead(&mut state.misbehaviours, request) {
            return answer;
        }
        let State {
            store,
            misbehaviours,
            ..
        } = state;
        if request.to_contents {
            api::content(store, misbehaviours, request)
        } else {
            api::answer(self, store, misbehaviours, request)
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
