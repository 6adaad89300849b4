//! Mirrors that an older release made.

use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use rdd_api::{App, Container, condition, names};
use serde_json::json;

use crate::lab;

const ID: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
const GONE: &str = "0dead0000dead0000dead0000dead0000dead0000dead0000dead0000dead000";

#[test]
fn a_finalizer_of_an_older_name_is_replaced_or_let_go() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        let containers: Api<Container> = Api::namespaced(lab.client.clone(), "default");
        for id in [ID, GONE] {
            let document = json!({
                "apiVersion": format!("{}/{}", names::group::CONTAINERS, names::VERSION),
                "kind": "Container",
                "metadata": {"name": id, "finalizers": [names::MIRROR_FINALIZER_OLD]},
            });
            let older = serde_json::from_value(document).expect("a Container");
            let created = containers.create(&PostParams::default(), &older).await;
            created.expect("it is accepted");
        }
        lab.engine.put_container(
            rdd_engine::Container {
                id: ID.to_owned(),
                name: "/web".to_owned(),
                state: "running".to_owned(),
                ..rdd_engine::Container::default()
            },
            "start",
        );
        let document = json!({
            "apiVersion": names::APP_API_VERSION,
            "kind": "App",
            "metadata": {"name": names::APP},
            "spec": {"running": true},
        });
        let app: App = serde_json::from_value(document).expect("an App");
        let created = lab.apps().create(&PostParams::default(), &app).await;
        created.expect("it is accepted");
        lab.app_says(condition::SETTLED, "True", "Settled").await;
        // What the engine has is mirrored under the finalizer of today.
        lab.eventually("the mirror is ours", || async {
            let mirror = containers.get_opt(ID).await.expect("the server works")?;
            (mirror.finalizers() == [names::MIRROR_FINALIZER] && mirror.status.is_some())
                .then_some(())
        })
        .await;
        // What it has not goes.
        lab.eventually("nothing stands for what is gone", || async {
            let mirror = containers.get_opt(GONE).await.expect("the server works");
            mirror.is_none().then_some(())
        })
        .await;
        let deleted = containers.delete(ID, &DeleteParams::default()).await;
        deleted.expect("it is accepted");
        lab.eventually("the engine removed it", || async {
            let calls = lab.engine.calls();
            calls.contains(&format!("remove {ID}")).then_some(())
        })
        .await;
        manager.stop().await;
    });
}
