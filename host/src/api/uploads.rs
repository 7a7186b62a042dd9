//! `PUT /v1/artifacts`: a plugin or a model on its way into the state directory. None of it stands in memory: it is written
//! and its digest computed as it comes, on a thread that may wait for the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout_at};

use super::bodies;
use super::refusal::Refusal;
use crate::control::StateDirectory;
use sandpiper_sandbox::Digest;

/// The largest artifact, bytes.
const LARGEST: u64 = 256 << 20;
/// Artifacts that come at the same time, and their bytes.
const AT_ONCE: usize = 4;
const BYTES_AT_ONCE: u64 = 512 << 20;
/// Bytes of artifacts that no deployment names, on the disk: whoever sends and never deploys does not fill it.
const UNNAMED: u64 = 1 << 30;
/// Between two pieces of one, and for all of it.
const SILENCE: Duration = Duration::from_secs(10);
const ALL: Duration = Duration::from_secs(600);
/// Pieces that wait for the disk; hyper reads ahead no more than its buffer.
const PIECES: usize = 4;

/// What is on its way, of all callers together.
pub struct Uploads {
    count: AtomicUsize,
    bytes: AtomicU64,
    /// Of artifacts that no deployment names, on the disk.
    quota: u64,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { count: AtomicUsize::new(0), bytes: AtomicU64::new(0), quota: UNNAMED }
    }
}

/// One caller's part of it, until it is kept or given up.
struct Share {
    of: Arc<Uploads>,
    bytes: u64,
}

impl Share {
    fn take(of: &Arc<Uploads>) -> Result<Self, Refusal> {
        let share = Self { of: of.clone(), bytes: 0 };
        if of.count.fetch_add(1, Ordering::Relaxed) < AT_ONCE {
            return Ok(share);
        }
        let why = format!("{AT_ONCE} artifacts are on their way: wait for one of them");
        Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, why))
    }

    fn add(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.bytes += bytes;
        let all = self.of.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.bytes > LARGEST {
            return Err(too_large());
        }
        if all > BYTES_AT_ONCE {
            let why = format!("the artifacts on their way have more than {BYTES_AT_ONCE} bytes: wait for one of them");
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, why));
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.count.fetch_sub(1, Ordering::Relaxed);
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn too_large() -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("an artifact has at most {LARGEST} bytes"))
}

impl Uploads {
    /// Keeps what comes; its digest when all of it is on the disk.
    ///
    /// # Errors
    /// When it is too large, too slow, one too many, or cannot be written: then nothing of it stays.
    pub async fn receive(self: &Arc<Self>, directory: Arc<StateDirectory>, mut body: Body) -> Result<Digest, Refusal> {
        let mut share = Share::take(self)?;
        if hyper::body::Body::size_hint(&body).lower() > LARGEST {
            return Err(too_large());
        }
        let (pieces, coming) = channel(PIECES);
        let quota = self.quota;
        let writing = tokio::task::spawn_blocking(move || write(&directory, coming, quota));
        let sent = send(&mut body, &mut share, &pieces).await;
        if let Err(refusal) = sent {
            // Nobody says that it is whole: what is written so far goes.
            drop(pieces);
            bodies::discard_body(body).await;
            return Err(refusal);
        }
        // The writer has ended when it takes no more, and says why itself.
        let _ = pieces.send(Piece::End).await;
        match writing.await {
            Ok(Ok(digest)) => Ok(digest),
            Ok(Err(error)) => Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, format!("{error:#}"))),
            Err(error) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        }
    }
}

enum Piece {
    Bytes(Bytes),
    End,
}

async fn send(body: &mut Body, share: &mut Share, pieces: &Sender<Piece>) -> Result<(), Refusal> {
    let end = Instant::now() + ALL;
    loop {
        let frame = match timeout_at(end.min(Instant::now() + SILENCE), body.frame()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                let why = format!("the artifact does not come whole: {error}");
                return Err(Refusal::new(StatusCode::BAD_REQUEST, why));
            }
            Err(_) if Instant::now() >= end => return Err(bodies::late(ALL)),
            Err(_) => return Err(bodies::late(SILENCE)),
        };
        let Ok(bytes) = frame.into_data() else { continue };
        share.add(bytes.len() as u64)?;
        if pieces.send(Piece::Bytes(bytes)).await.is_err() {
            return Ok(());
        }
    }
}

fn write(directory: &StateDirectory, mut coming: Receiver<Piece>, quota: u64) -> Result<Digest> {
    // Where there is no room already, nothing is written.
    directory.check_quota(None, 0, quota)?;
    let mut incoming = directory.receive_artifact()?;
    loop {
        match coming.blocking_recv().context("the artifact did not come whole")? {
            Piece::Bytes(bytes) => incoming.write(&bytes)?,
            Piece::End => return incoming.keep_within(quota),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::super::bodies::tests::Silent;
    use super::*;

    struct Stand {
        _folder: tempfile::TempDir,
        directory: Arc<StateDirectory>,
        uploads: Arc<Uploads>,
    }

    fn stand() -> Stand {
        let folder = tempfile::tempdir().unwrap();
        let directory = Arc::new(StateDirectory::open(folder.path(), None).unwrap());
        Stand { _folder: folder, directory, uploads: Arc::default() }
    }

    impl Stand {
        async fn receive(&self, body: Body) -> Result<Digest, u16> {
            let received = self.uploads.receive(self.directory.clone(), body).await;
            received.map_err(|refusal| refusal.into_response().status().as_u16())
        }

        /// Files that are on their way.
        fn incoming(&self) -> usize {
            std::fs::read_dir(self.directory.path().join("incoming")).unwrap().count()
        }
    }

    #[tokio::test]
    async fn what_comes_is_kept_by_its_content() {
        let stand = stand();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| at as u8).collect();
        let digest = stand.receive(Body::from(bytes.clone())).await.unwrap();
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(stand.directory.artifact(digest).unwrap(), bytes);
        assert_eq!((stand.incoming(), stand.uploads.bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn an_artifact_that_is_damaged_is_mended_by_sending_it_anew() {
        let stand = stand();
        let digest = stand.receive(Body::from("model")).await.unwrap();
        std::fs::write(stand.directory.path().join("artifacts").join(digest.hex()), "mod").unwrap();
        assert!(stand.directory.artifact(digest).is_err());
        assert!(stand.directory.check_artifact(digest).unwrap_err().to_string().contains("damaged"));
        stand.receive(Body::from("model")).await.unwrap();
        assert!(stand.directory.check_artifact(digest).is_ok());
        assert_eq!(stand.directory.artifact(digest).unwrap(), b"model");
    }

    #[tokio::test]
    async fn what_no_deployment_names_has_a_quota_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Arc::new(StateDirectory::open(folder.path(), None).unwrap());
        let uploads = Arc::new(Uploads { quota: 10, ..Uploads::default() });
        let receive = async |text: &'static str| uploads.receive(directory.clone(), Body::from(text)).await;
        let first = receive("1234567").await.ok().unwrap();
        assert!(receive("1234567").await.is_ok(), "the same once more takes no room");
        let refused = receive("89012").await.err().unwrap().into_response();
        assert_eq!(refused.status().as_u16(), 507);
        let body = refused.into_body().collect().await.unwrap().to_bytes();
        let said = String::from_utf8_lossy(&body);
        assert!(said.contains("no deployment names have 7 bytes") && said.contains("the 10 that may lie"), "{said}");
        assert_eq!(std::fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
        // A deployment names the first: there is room again.
        let named = format!(
            r#"{{"applied":null,"deployments":[{{"revision":1,"releases":{{"parse":{{"name":"a","plugin":"{first}","config":{{}}}}}},"reason":"","at":1}}]}}"#
        );
        std::fs::write(folder.path().join("pipelines/a.json"), named).unwrap();
        assert!(receive("89012").await.is_ok());
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_before_it_comes() {
        assert_eq!(stand().receive(Body::new(Silent(LARGEST + 1))).await, Err(413));
        let uploads = Arc::<Uploads>::default();
        let mut share = Share::take(&uploads).ok().unwrap();
        assert!(share.add(LARGEST).is_ok() && share.add(1).is_err(), "and when it does not say so");
        let mut second = Share::take(&uploads).ok().unwrap();
        assert!(second.add(BYTES_AT_ONCE - LARGEST).is_err(), "all of them together have a bound");
        drop((share, second));
        assert_eq!(uploads.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_ones_have_a_number_and_a_time_and_leave_nothing() {
        let stand = stand();
        let mut unfinished = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let (uploads, directory) = (stand.uploads.clone(), stand.directory.clone());
            unfinished
                .spawn(async move { uploads.receive(directory, Body::new(Silent(LARGEST))).await.err().unwrap() });
        }
        while stand.uploads.count.load(Ordering::Relaxed) < AT_ONCE {
            tokio::task::yield_now().await;
        }
        assert_eq!(stand.receive(Body::from("one more")).await, Err(429));
        // Their writers wait on threads, so time does not pass by itself.
        for _ in 0..3 {
            tokio::time::advance(SILENCE).await;
        }
        while let Some(refusal) = unfinished.join_next().await {
            assert_eq!(refusal.unwrap().into_response().status().as_u16(), 408);
        }
        assert!(stand.receive(Body::from("one more")).await.is_ok());
    }
}
