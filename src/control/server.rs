//! The owner's end of the control socket.
//!
//! Requests are served side by side, so many at most; each connection has one, which must come soon and whose
//! answer must be read soon. What they mean is the [`Desk`]'s to say.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::desk::{Desk, Trouble};
use super::protocol::{REQUEST_BYTES_MAX, Request};
use super::socket::Listening;

/// How long a request may take to arrive: a connection that stays silent must not keep others out.
const REQUEST_WAIT: Duration = Duration::from_secs(2);
/// How long an answer may take to be read.
const REPLY_WAIT: Duration = Duration::from_secs(5);
/// How long requests that are under way may take to end, once nobody is listened to any more.
const END_WAIT: Duration = Duration::from_secs(3);
/// Connections served side by side, at most.
const CONNECTIONS_MAX: usize = 64;

/// Serves until dropped.
pub struct Served {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Served {
    /// Takes the sockets away, and lets what was asked end, for a moment.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let until = tokio::time::Instant::now() + END_WAIT;
        for mut task in self.tasks.drain(..) {
            match tokio::time::timeout_at(until, &mut task).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => tracing::error!("a defect of the control socket: {e}"),
                Err(_) => {
                    tracing::debug!("requests on the control socket were cut short");
                    task.abort();
                }
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Answers on all these sockets. Needs a tokio runtime.
pub fn serve(sockets: Vec<Listening>, desk: &Arc<Desk>) -> Served {
    let (stop, stopped) = watch::channel(false);
    let tasks = sockets
        .into_iter()
        .map(|socket| tokio::spawn(listen(socket, desk.clone(), stopped.clone())))
        .collect();
    Served { stop, tasks }
}

async fn listen(socket: Listening, desk: Arc<Desk>, mut stopped: watch::Receiver<bool>) {
    let mut serving: JoinSet<()> = JoinSet::new();
    loop {
        tokio::select! {
            accepted = socket.listener.accept(), if serving.len() < CONNECTIONS_MAX => match accepted {
                // its mode lets nobody else in; asked all the same, where it is for its owner alone
                Ok((stream, _)) if !socket.may_ask(&stream) => {
                    tracing::warn!("the control socket {}: refused to another user", socket.path.display());
                }
                Ok((stream, _)) => {
                    serving.spawn(converse(stream, desk.clone()));
                }
                Err(e) => {
                    tracing::warn!("the control socket: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(ended) = serving.join_next() => {
                tell_defect(ended);
            }
            // a sender that has gone is an end, too
            () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => break,
        }
    }
    // first the name, so that nobody asks any more
    drop(socket);
    while let Some(ended) = serving.join_next().await {
        tell_defect(ended);
    }
}

fn tell_defect(ended: Result<(), tokio::task::JoinError>) {
    if let Err(e) = ended {
        tracing::error!("a defect of the control socket: {e}");
    }
}

async fn converse(stream: UnixStream, desk: Arc<Desk>) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES_MAX));
    match tokio::time::timeout(REQUEST_WAIT, reader.read_line(&mut line)).await {
        // a probe, or a client that has gone
        Err(_) | Ok(Err(_)) | Ok(Ok(0)) => return,
        Ok(Ok(_)) => {}
    }
    let reply = match serde_json::from_str::<Request>(&line) {
        Ok(request) => desk.answer(request).await,
        Err(e) => Err(Trouble::BadRequest(format!("a request that can't be read: {e}"))),
    };
    let reply = reply.unwrap_or_else(|trouble| desk.refusal(&trouble));
    let Ok(mut text) = serde_json::to_string(&reply) else { return };
    text.push('\n');
    match tokio::time::timeout(REPLY_WAIT, writer.write_all(text.as_bytes())).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::debug!("the answer was not wanted any more: {e}"),
        Err(_) => tracing::debug!("the answer was not read for {} s", REPLY_WAIT.as_secs()),
    }
}
