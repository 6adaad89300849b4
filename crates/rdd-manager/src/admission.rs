//! Where the rules of the selected controllers go.

use async_trait::async_trait;
use rdd_admission::AdmissionChain;

/// Takes the admission rules of the selected controllers into service.
///
/// In process they join the server's chain; a program of its own has no chain, and they
/// are served as webhooks only. When [`JoinAdmission::join`] returns, they judge every further write.
#[async_trait]
pub trait JoinAdmission: Send + Sync {
    /// Puts the rules into service.
    ///
    /// # Errors
    /// When they cannot be served; the start ends with it.
    async fn join(&self, rules: AdmissionChain) -> anyhow::Result<()>;
}

/// The rules are served as webhooks and nowhere else.
#[derive(Clone, Copy, Debug, Default)]
pub struct WebhooksOnly;

#[async_trait]
impl JoinAdmission for WebhooksOnly {
    async fn join(&self, _: AdmissionChain) -> anyhow::Result<()> {
        Ok(())
    }
}
