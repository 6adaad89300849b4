//! The context of an instance: made when its engine is connected, gone when it stops.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::files::Files;
use crate::health::is_dead;

/// What a [`Publisher`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Docker's configuration folder.
    pub folder: PathBuf,
    /// The name of the context, which is ours alone.
    pub context: String,
    /// A file of ours that remembers what was selected before.
    pub memory: PathBuf,
    /// Where Docker looks without any context.
    pub default_endpoint: String,
    /// The variable that decides in this process's environment which engine Docker
    /// uses, if one does: then the selection is left alone.
    pub decided_by: Option<&'static str>,
}

/// Keeps the context of an instance.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    probe: Mutex<Option<Probe>>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    files: Files,
    /// Held while files are changed, so that a late step never overtakes a newer one.
    changing: Mutex<()>,
}

#[derive(Debug)]
struct Probe {
    cancelled: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.cancelled.cancel();
        AbortHandle::abort(&self.task.abort_handle());
    }
}

impl Publisher {
    /// Touches nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let files = Files::new(options.folder.clone());
        let shared = Shared {
            options,
            files,
            changing: Mutex::new(()),
        };
        Self {
            shared: Arc::new(shared),
            probe: Mutex::new(None),
        }
    }

    /// Makes the context lead to `endpoint`; it exists when this returns. In the
    /// background it is looked whether the selected context is dead, and if so, ours is
    /// selected instead.
    ///
    /// # Errors
    /// When the context cannot be written.
    pub async fn publish(&self, endpoint: &str) -> Result<()> {
        self.cancel_probe().await;
        let (shared, endpoint) = (Arc::clone(&self.shared), endpoint.to_owned());
        blocking(move || {
            let _changing = shared.changing.lock();
            shared.files.put_context(&shared.options.context, &endpoint)
        })
        .await?;
        if let Some(variable) = self.shared.options.decided_by {
            tracing::info!(
                variable,
                "the environment decides which engine docker uses; its selected context is left alone"
            );
            return Ok(());
        }
        let cancelled = CancellationToken::new();
        let task = tokio::spawn({
            let (shared, cancelled) = (Arc::clone(&self.shared), cancelled.clone());
            async move {
                tokio::select! {
                    () = cancelled.cancelled() => {}
                    () = probe(&shared, &cancelled) => {}
                }
            }
        });
        *self.probe.lock() = Some(Probe { cancelled, task });
        Ok(())
    }

    /// Removes the context. If it is selected, what was selected before is again, where
    /// that is known and still exists, else none. Without a context nothing happens.
    ///
    /// # Errors
    /// When the selection cannot be changed or the context not removed.
    pub async fn withdraw(&self) -> Result<()> {
        self.cancel_probe().await;
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.withdraw()).await
    }

    /// Returns when no probe can act any more.
    async fn cancel_probe(&self) {
        let probe = self.probe.lock().take();
        if let Some(mut probe) = probe {
            probe.cancelled.cancel();
            if let Err(error) = (&mut probe.task).await {
                tracing::warn!(%error, "the look at the selected Docker context failed");
            }
        }
    }
}

impl Shared {
    fn withdraw(&self) -> Result<()> {
        let _changing = self.changing.lock();
        let ours = self.options.context.as_str();
        let before = self.remembered()?;
        let before = match before {
            Some(name)
                if name != ours && self.files.context(&name).is_ok_and(|found| found.is_some()) =>
            {
                Some(name)
            }
            _ => None,
        };
        self.files
            .select(|now| (now == Some(ours)).then(|| before.clone()))?;
        self.files.remove_context(ours)?;
        match fs::remove_file(&self.options.memory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::file("remove", &self.options.memory)(error))
            }
            _ => Ok(()),
        }
    }

    fn remembered(&self) -> Result<Option<String>> {
        match fs::read_to_string(&self.options.memory) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            other => other
                .map(|name| Some(name).filter(|name| !name.is_empty()))
                .map_err(Error::file("read", &self.options.memory)),
        }
    }

    /// Selects our context in the place of `dead`, unless that is no longer selected.
    fn take_over(&self, dead: Option<&str>, cancelled: &CancellationToken) -> Result<bool> {
        let _changing = self.changing.lock();
        if cancelled.is_cancelled() {
            return Ok(false);
        }
        // First the memory: a crash in between loses nothing.
        fs::write(&self.options.memory, dead.unwrap_or_default())
            .map_err(Error::file("write", &self.options.memory))?;
        let ours = self.options.context.clone();
        self.files
            .select(|now| (now == dead).then(|| Some(ours.clone())))?;
        Ok(self.files.current()?.as_deref() == Some(&ours))
    }
}

async fn probe(shared: &Arc<Shared>, cancelled: &CancellationToken) {
    let selected = match shared.files.current() {
        Ok(selected) => selected,
        Err(error) => {
            tracing::warn!(%error, "the selected Docker context is left alone");
            return;
        }
    };
    let options = &shared.options;
    if selected.as_ref() == Some(&options.context)
        || !is_dead(
            &shared.files,
            &options.default_endpoint,
            selected.as_deref(),
        )
        .await
    {
        return;
    }
    let (shared, cancelled) = (Arc::clone(shared), cancelled.clone());
    let taken = {
        let (shared, selected) = (Arc::clone(&shared), selected.clone());
        blocking(move || shared.take_over(selected.as_deref(), &cancelled)).await
    };
    match taken {
        Ok(true) => tracing::info!(
            context = shared.options.context,
            before = selected.as_deref().unwrap_or("default"),
            "selected our Docker context; no engine answers behind the one before"
        ),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "the selected Docker context is left alone"),
    }
}

/// File systems of home folders can hang; the runtime's threads must not.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
