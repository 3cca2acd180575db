//! A skill's only way out: HTTP through the runner to the broker. It is offered as a Unix socket, and as what a skill
//! gets where it asks for an inet socket.

mod authority;
mod broker;
mod document;
mod headers;
mod lingering_close;
mod proxy;
mod session;
mod sockets;

use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::runtime::Runtime;

use crate::confine::kernel;
use authority::Authority;
pub use broker::{Broker, Connection};
pub use document::{BROKER, Document, TOKEN_FILE, read};
use proxy::Proxy;
pub use session::{NotOpened, Session};

/// Where ordinary clients are told that a proxy is. Nothing listens there: every connection goes to the runner.
const PROXY: &str = "http://127.0.0.1:3128";
const PROXY_NAMES: [&str; 5] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"];
const NO_PROXY_NAMES: [&str; 2] = ["NO_PROXY", "no_proxy"];
const CA_NAMES: [&str; 6] =
    ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE"];
const SOCKET_NAME: &str = "COUNTERSIGN_EGRESS_SOCKET";

/// The offer, as the skill finds it.
pub struct Offer {
    pub env: Vec<(&'static str, String)>,
    /// What the skill is started with, so that it hands its inet sockets over; `None` where the kernel cannot ask.
    pub sockets: Option<OwnedFd>,
}

/// Serves the proxy as long as the runtime lives.
pub fn offer(runtime: &Runtime, session: &Arc<Session>, folder: &Path, lifetime: Duration) -> anyhow::Result<Offer> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let authority = Authority::new(lifetime).context("cannot make the proxy's certificate authority")?;
    let (ca, socket) = (folder.join("ca.pem"), folder.join("egress.sock"));
    std::fs::write(&ca, authority.pem()).with_context(|| format!("cannot write {}", ca.display()))?;
    let proxy = Arc::new(Proxy::new(Arc::clone(session), authority));
    {
        let _inside = runtime.enter();
        let listener = tokio::net::UnixListener::bind(&socket)
            .with_context(|| format!("cannot listen on {}", socket.display()))?;
        runtime.spawn(Arc::clone(&proxy).listen(listener));
    }
    let mut env = vec![(SOCKET_NAME, socket.display().to_string())];
    env.extend(CA_NAMES.map(|name| (name, ca.display().to_string())));
    let mut sockets = None;
    if kernel::offered().is_some() {
        let (ours, theirs) = UnixStream::pair().context("cannot make a stream to the skill")?;
        // The one descriptor that the skill's process inherits; it closes it before it becomes the skill.
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).context("cannot keep the stream to the skill open")?;
        sockets::serve(ours, proxy, runtime.handle().clone()).context("cannot start the thread for inet sockets")?;
        env.extend(PROXY_NAMES.map(|name| (name, PROXY.to_owned())));
        env.extend(NO_PROXY_NAMES.map(|name| (name, String::new())));
        sockets = Some(theirs.into());
    }
    Ok(Offer { env, sockets })
}
