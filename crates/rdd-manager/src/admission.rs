//! Where the rules of the selected controllers go.

use std::sync::Arc;

use async_trait::async_trait;
use rdd_admission::Admit;

/// Takes the admission rules of the selected controllers into service.
///
/// In process they join the server's chain; an external program serves them as
/// webhooks. When [`JoinAdmission::join`] returns, they judge every further write.
#[async_trait]
pub trait JoinAdmission: Send + Sync {
    /// Puts the rules into service.
    ///
    /// # Errors
    /// When they cannot be served; the start ends with it.
    async fn join(&self, rules: Vec<Arc<dyn Admit>>) -> anyhow::Result<()>;
}
