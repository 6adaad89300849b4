//! Controllers that only ship a kind: the engine mirrors into it.

use futures::future::BoxFuture;
use rdd_api::names::{controller, selection};
use rdd_api::{
    Image, ImagePullRequest, ImagePushRequest, ImageScanRequest, Volume, VolumeCreateRequest,
};
use rdd_manager::{Context, ControllerDef};

use crate::world::World;

/// Ships Image and the requests about images.
pub(crate) const IMAGE: ControllerDef<World> = ControllerDef {
    name: controller::IMAGE,
    group: selection::CONTAINERS,
    needs: &[],
    crds: || {
        vec![
            Image::crd(),
            ImagePullRequest::crd(),
            ImagePushRequest::crd(),
            ImageScanRequest::crd(),
        ]
    },
    admission: |_| Vec::new(),
    endpoints: |_| Vec::new(),
    run: idle,
};

/// Ships Volume and the request for one.
pub(crate) const VOLUME: ControllerDef<World> = ControllerDef {
    name: controller::VOLUME,
    crds: || vec![Volume::crd(), VolumeCreateRequest::crd()],
    ..IMAGE
};

/// Waits for the end.
pub(super) fn idle(context: Context<World>) -> BoxFuture<'static, anyhow::Result<()>> {
    Box::pin(async move {
        context.synced().await;
        context.stopping().cancelled().await;
        Ok(())
    })
}
