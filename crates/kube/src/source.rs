//! Where the server is, and who asks it.

use core::time::Duration;
use std::path::PathBuf;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Where the server is and who asks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The files that the variable `KUBECONFIG` names, else `~/.kube/config`, else the service account of the pod.
    #[default]
    Inferred,
    /// The service account of the pod that this runs in.
    InCluster,
    /// A kubeconfig file.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The context; without one the file's current context.
        context: Option<String>,
    },
}

/// No server to be asked: the configuration cannot be read or used. A server that does not answer is none of these errors,
/// see [`State`](crate::State).
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct ConnectError {
    reason: String,
}

impl ConnectError {
    pub(crate) fn new(error: &dyn core::error::Error) -> Self {
        Self { reason: one_line(error) }
    }
}

impl Source {
    /// A client of the server. Where the configuration names a program that gives credentials, it is run.
    pub(crate) async fn connect(&self) -> Result<kube::Client, ConnectError> {
        let mut config = match self {
            Self::Inferred => Config::infer().await.map_err(|error| ConnectError::new(&error))?,
            Self::InCluster => Config::incluster().map_err(|error| ConnectError::new(&error))?,
            Self::Kubeconfig { path, context } => {
                let file = Kubeconfig::read_from(path).map_err(|error| ConnectError::new(&error))?;
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                Config::from_custom_kubeconfig(file, &options)
                    .await
                    .map_err(|error| ConnectError::new(&error))?
            }
        };
        config.connect_timeout = Some(CONNECT);
        // Attempts and their deadlines are those of this crate.
        config.read_timeout = None;
        config.default_retry = false;
        kube::Client::try_from(config).map_err(|error| ConnectError::new(&error))
    }
}

/// An error with its causes, in one line.
pub(crate) fn one_line(error: &dyn core::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // Many errors repeat their cause.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    shorten(&text)
}

/// A text in one line, and not too long to be read.
pub(crate) fn shorten(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => line.get(..end).map(|start| format!("{start}...")).unwrap_or_default(),
        None => line,
    }
}

const CONNECT: Duration = Duration::from_secs(10);
const SHOWN: usize = 500;
