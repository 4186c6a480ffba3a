//! Requests with deadlines.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::time::Instant;

use http::Request;
use http::header::{ACCEPT, RETRY_AFTER};
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::timeout;

use crate::change::State;
use crate::source::{ConnectError, Source, one_line, shorten};
use crate::wire::Status;

/// One server, asked with the credentials that its source has now.
#[derive(Debug)]
pub(crate) struct Client {
    source: Source,
    inner: RefCell<Inner>,
    renewed: Cell<Instant>,
}

struct Inner(kube::Client);

impl core::fmt::Debug for Inner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Inner")
    }
}

/// Why a request gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection, a broken one, or silence.
    Unreachable(String),
    /// An answer, and a refusal.
    Refused(Refused),
}

/// A refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    /// The machine-readable reason of the server, such as `Expired`.
    pub(crate) cause: String,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

/// The content of an answer, as it comes.
#[derive(Debug)]
pub(crate) struct Content {
    body: Body,
}

impl Client {
    pub(crate) async fn connect(source: Source) -> Result<Self, ConnectError> {
        let inner = RefCell::new(Inner(source.connect().await?));
        Ok(Self { source, inner, renewed: Cell::new(Instant::now()) })
    }

    /// Asks for a path, and waits for the beginning of the answer.
    pub(crate) async fn get(&self, path: &str, accept: &str, within: Duration) -> Result<Content, Failure> {
        let asked = self.ask(path, accept, within).await;
        let renew = match &asked {
            Err(Failure::Refused(refused)) => refused.status == 401,
            Err(Failure::Unreachable(_)) => true,
            Ok(_) => false,
        };
        if renew {
            self.renew().await;
        }
        asked
    }

    async fn ask(&self, path: &str, accept: &str, within: Duration) -> Result<Content, Failure> {
        let request = Request::get(path).header(ACCEPT, accept).body(Body::empty());
        let request = request.map_err(|error| Failure::Unreachable(one_line(&error)))?;
        let client = self.inner.borrow().0.clone();
        let answer = match timeout(within, client.send(request)).await {
            Err(_) => return Err(silent(within)),
            Ok(Err(error)) => return Err(Failure::Unreachable(one_line(&error))),
            Ok(Ok(answer)) => answer,
        };
        let status = answer.status();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let mut content = Content { body: answer.into_body() };
        if status.is_success() {
            return Ok(content);
        }
        // The status decides: what else the server says is for people.
        let said = content.whole(STATUS_BYTES, STATUS_TIME).await.unwrap_or_default();
        let said = serde_json::from_slice::<Status>(&said).unwrap_or_default();
        let message = said.message.as_deref().or(status.canonical_reason()).unwrap_or_default();
        Err(Failure::Refused(Refused {
            status: status.as_u16(),
            message: shorten(message),
            retry_after,
            cause: said.cause(),
        }))
    }

    /// Reads credentials and address again: they may be others by now.
    async fn renew(&self) {
        if self.renewed.get().elapsed() < RENEWAL {
            return;
        }
        self.renewed.set(Instant::now());
        // Where they cannot be read, those that were read before stay.
        if let Ok(client) = self.source.connect().await {
            *self.inner.borrow_mut() = Inner(client);
        }
    }
}

impl Content {
    /// The next bytes; nothing at the end.
    pub(crate) async fn next(&mut self, within: Duration) -> Result<Option<impl AsRef<[u8]>>, Failure> {
        loop {
            match timeout(within, self.body.frame()).await {
                Err(_) => return Err(silent(within)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(Failure::Unreachable(one_line(&error))),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// All bytes, at most so many, with no more time than this between two parts.
    pub(crate) async fn whole(&mut self, most: usize, within: Duration) -> Result<Vec<u8>, Failure> {
        let mut whole = Vec::new();
        while let Some(part) = self.next(within).await? {
            let part = part.as_ref();
            if whole.len().saturating_add(part.len()) > most {
                return Err(Failure::Unreachable(format!("the answer has more than {most} bytes")));
            }
            whole.extend_from_slice(part);
        }
        Ok(whole)
    }
}

impl Failure {
    pub(crate) fn garbled(error: &serde_json::Error) -> Self {
        Self::Unreachable(format!("the answer cannot be read: {}", one_line(error)))
    }

    pub(crate) const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refused) => Some(refused.status),
            Self::Unreachable(_) => None,
        }
    }

    /// Whether the server no longer knows the version or the token that was named.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(self, Self::Refused(refused)
            if refused.status == 410 || refused.cause == "Expired" || refused.cause == "Gone")
    }

    /// Whether the server has not come to the version that was named, or does not take it.
    pub(crate) fn is_of_version(&self) -> bool {
        matches!(self, Self::Refused(refused)
            if refused.cause == TOO_LARGE || refused.message.contains("resource version"))
    }

    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refused) => refused.retry_after,
            Self::Unreachable(_) => None,
        }
    }

    pub(crate) fn state(&self) -> State {
        match self {
            Self::Unreachable(reason) => State::Unreachable(reason.clone()),
            Self::Refused(refused) => {
                State::Refused { status: refused.status, reason: refused.message.clone() }
            }
        }
    }
}

fn silent(after: Duration) -> Failure {
    Failure::Unreachable(format!("no answer within {} s", after.as_secs()))
}

pub(crate) const JSON: &str = "application/json";
/// The cause that a server gives for a version that it has not come to. Source: kubernetes
/// `staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/types.go`, `CauseTypeResourceVersionTooLarge`.
const TOO_LARGE: &str = "ResourceVersionTooLarge";
const STATUS_BYTES: usize = 1 << 20;
const STATUS_TIME: Duration = Duration::from_secs(5);
const RENEWAL: Duration = Duration::from_secs(5);
