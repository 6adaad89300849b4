//! What the control plane goes by cannot be deleted under it.
//!
//! Without the record of its start every `rdd` command would wait for a readiness that
//! nobody tells again, and without its leases the control plane had to end.

use std::sync::Arc;

use async_trait::async_trait;
use rdd_admission::{AdmissionRequest, Admit, Admitted, Denial, Frame, Matches, Operation};
use rdd_api::names;
use rdd_manager::EMBEDDED;

/// The name that refusals are given in.
const GUARD: &str = "record-guard.rdd.rancherdesktop.io";

/// Refuses to delete the namespace of the control plane, the record of its start in it,
/// and the leases that it holds.
pub(crate) fn rule() -> Arc<dyn Admit> {
    let delete = [Operation::Delete];
    let matches = [
        Matches::resource("", "namespaces", delete),
        Matches::resource("", "configmaps", delete),
        Matches::resource("coordination.k8s.io", "leases", delete),
    ];
    Arc::new(RecordGuard {
        frame: Frame::validating(GUARD, matches),
    })
}

struct RecordGuard {
    frame: Frame,
}

#[async_trait]
impl Admit for RecordGuard {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial> {
        let is_ours = request.namespace == names::RDD_NAMESPACE;
        let needed = match request.resource.resource.as_str() {
            "namespaces" => request.name == names::RDD_NAMESPACE,
            "configmaps" => is_ours && request.name == names::DISCOVERY_CONFIG_MAP,
            _ => {
                let holder = request.old_object["spec"]["holderIdentity"].as_str();
                let holder = holder.and_then(|holder| holder.split_once('/'));
                is_ours && holder.is_some_and(|(manager, _)| manager == EMBEDDED)
            }
        };
        if !needed {
            return Ok(Admitted::default());
        }
        Err(Denial::forbidden(
            GUARD,
            format!(
                "{} {:?} is what the running control plane goes by and goes only with it: rdd svc delete",
                request.kind.kind, request.name
            ),
        ))
    }
}
