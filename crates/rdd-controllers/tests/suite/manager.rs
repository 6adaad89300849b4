//! Starting, readiness, leases and the end of a manager.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use rdd_admission::AdmissionChain;
use rdd_api::{App, names};
use rdd_controllers::{REGISTRY, World};
use rdd_manager::{ControllerDef, Deadlines, Entry, Error, JoinAdmission, Options, Terms};
use serde_json::json;
use tokio::sync::Notify;

use crate::lab::{self, Lab};

fn def(
    name: &'static str,
    run: fn(rdd_manager::Context<World>) -> futures::future::BoxFuture<'static, anyhow::Result<()>>,
) -> ControllerDef<World> {
    ControllerDef {
        name,
        group: names::selection::APP,
        needs: &[],
        crds: Vec::new,
        admission: |_| Vec::new(),
        endpoints: |_| Vec::new(),
        run,
    }
}

fn leases(lab: &Lab) -> Api<Lease> {
    Api::namespaced(lab.client.clone(), names::RDD_NAMESPACE)
}

async fn holder(lab: &Lab, controller: &str) -> String {
    let lease = leases(lab)
        .get(&format!("controller-{controller}"))
        .await
        .expect("it is there");
    lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .unwrap_or_default()
}

#[test]
fn ready_means_served_listed_judged_and_reconciled() {
    lab::run(|lab| async move {
        assert!(!lab.is_ready().await);
        let manager = lab.start("*").await;
        assert!(lab.is_ready().await);
        let map = lab.discovery().await;
        let annotations = map.metadata.annotations.clone().unwrap_or_default();
        assert_eq!(annotations[names::START_ANNOTATION], "start-1");
        let listed = Entry::controllers(&map)
            .expect("entries parse")
            .expect("registered");
        let all = REGISTRY.iter().map(|def| def.name.to_owned()).collect();
        assert_eq!(listed, all);
        for def in REGISTRY {
            assert_eq!(holder(&lab, def.name).await, "embedded/start-1");
        }
        let other = App {
            metadata: kube::api::ObjectMeta {
                name: Some("other".to_owned()),
                ..Default::default()
            },
            ..App::default()
        };
        let mut document = serde_json::to_value(&other).expect("JSON");
        document["apiVersion"] = json!(names::APP_API_VERSION);
        document["kind"] = json!("App");
        let refused: Result<App, _> = lab
            .apps()
            .create(
                &PostParams::default(),
                &serde_json::from_value(document).expect("an App"),
            )
            .await;
        let Err(kube::Error::Api(status)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(status.code, 422);
        assert!(
            status.message.contains("App resource must be named 'app'"),
            "{}",
            status.message
        );
        assert_eq!(manager.stop().await, Vec::<&str>::new());
        for def in REGISTRY {
            assert_eq!(holder(&lab, def.name).await, "", "{} is given up", def.name);
        }
        assert_eq!(
            Entry::controllers(&lab.discovery().await).expect("parses"),
            None
        );
    });
}

#[test]
fn with_no_controllers_the_answer_is_none_and_not_unknown() {
    lab::run(|lab| async move {
        let manager = lab.start("").await;
        assert!(lab.is_ready().await);
        let listed = Entry::controllers(&lab.discovery().await).expect("parses");
        assert_eq!(listed.expect("registered").len(), 0);
        manager.stop().await;
    });
}

#[test]
fn a_group_alone_has_every_definition_that_it_reads() {
    lab::run(|lab| async move {
        let manager = lab.start("containers").await;
        assert!(
            lab.apps().list(&Default::default()).await.is_ok(),
            "the App's kind is served"
        );
        assert!(
            manager
                .diagnostics()
                .reports()
                .values()
                .all(|report| report.restarts == 0)
        );
        manager.stop().await;
    });
}

static SLOW_GATE: Notify = Notify::const_new();

#[test]
fn ready_waits_for_the_slowest_controller() {
    static SLOW: [ControllerDef<World>; 1] = [ControllerDef {
        endpoints: |_| Vec::new(),
        name: "slow",
        group: names::selection::APP,
        needs: &[],
        crds: Vec::new,
        admission: |_| Vec::new(),
        run: |context| {
            async move {
                SLOW_GATE.notified().await;
                context.synced().await;
                context.stopping().cancelled().await;
                Ok(())
            }
            .boxed()
        },
    }];
    lab::run(|lab| async move {
        let start = tokio::spawn(rdd_manager::start(lab.options_for(&SLOW)));
        lab.eventually("the controller has its lease", || async {
            leases(&lab)
                .get_opt("controller-slow")
                .await
                .expect("the server works")
        })
        .await;
        assert!(!lab.is_ready().await);
        assert_eq!(
            Entry::controllers(&lab.discovery().await).expect("parses"),
            None
        );
        SLOW_GATE.notify_one();
        let manager = start.await.expect("no panic").expect("it starts");
        assert!(lab.is_ready().await);
        manager.stop().await;
    });
}

/// Passes rules on once it is told to.
struct SlowAdmission {
    lab: crate::lab::InProcess,
    gate: Arc<Notify>,
}

#[async_trait]
impl JoinAdmission for SlowAdmission {
    async fn join(&self, rules: AdmissionChain) -> anyhow::Result<()> {
        self.gate.notified().await;
        self.lab.join(rules).await
    }
}

#[test]
fn ready_waits_for_admission_to_listen() {
    lab::run(|lab| async move {
        let gate = Arc::new(Notify::new());
        let options = Options {
            admission: Arc::new(SlowAdmission {
                lab: crate::lab::InProcess(lab.server.clone()),
                gate: Arc::clone(&gate),
            }),
            ..lab.options("app", "start-1")
        };
        let start = tokio::spawn(rdd_manager::start(options));
        lab.eventually("the controller has its lease", || async {
            leases(&lab)
                .get_opt("controller-app")
                .await
                .expect("the server works")
        })
        .await;
        assert!(!lab.is_ready().await);
        assert_eq!(
            Entry::controllers(&lab.discovery().await).expect("parses"),
            None
        );
        gate.notify_one();
        let manager = start.await.expect("no panic").expect("it starts");
        assert!(lab.is_ready().await);
        manager.stop().await;
    });
}

#[test]
fn a_start_that_cannot_be_published_fails_with_the_cause() {
    lab::run(|lab| async move {
        // The first write of the record registers, the second one says ready.
        for after in [0, 1] {
            lab.begin("start-1").await;
            lab.store.fail_writes_below(
                "/registry/configmaps/rdd-system/rdd-controller-manager",
                after,
            );
            let failed = rdd_manager::start(lab.options("app", "start-1")).await;
            let error = anyhow::Error::new(failed.expect_err("it cannot be published"));
            lab.store.heal();
            assert!(
                format!("{error:#}").contains("/nowhere"),
                "after {after}: {error:#}"
            );
            assert!(!lab.is_ready().await, "after {after}");
            assert_eq!(holder(&lab, "app").await, "", "after {after}");
        }
        lab.begin("start-2").await;
        let manager = rdd_manager::start(lab.options("app", "start-2"))
            .await
            .expect("it starts");
        assert!(lab.is_ready().await);
        manager.stop().await;
    });
}

struct NoAdmission;

#[async_trait]
impl JoinAdmission for NoAdmission {
    async fn join(&self, _rules: AdmissionChain) -> anyhow::Result<()> {
        Err(anyhow::anyhow!("out of order").context("cannot listen"))
    }
}

#[test]
fn every_failed_step_ends_the_start_by_name_and_publishes_nothing() {
    static NEVER: std::sync::LazyLock<[ControllerDef<World>; 1]> =
        std::sync::LazyLock::new(|| [def("never", |_| std::future::pending().boxed())]);
    static FAILING: std::sync::LazyLock<[ControllerDef<World>; 1]> =
        std::sync::LazyLock::new(|| {
            [def("failing", |_| {
                async { Err(anyhow::anyhow!("no disk").context("cannot begin")) }.boxed()
            })]
        });
    static PANICKING: std::sync::LazyLock<[ControllerDef<World>; 1]> =
        std::sync::LazyLock::new(|| [def("panicking", |_| panic!("a bug"))]);
    lab::run(|lab| async move {
        async fn check(lab: &Lab, options: Options<World>, expect: &str) {
            let error = rdd_manager::start(options)
                .await
                .expect_err("it cannot start");
            assert!(error.to_string().contains(expect), "{error}");
            assert!(!lab.is_ready().await, "{expect}");
            assert_eq!(
                Entry::controllers(&lab.discovery().await).expect("parses"),
                None
            );
        }
        let quick = Deadlines {
            synced: Duration::from_millis(100),
            ..Deadlines::default()
        };
        let never = Options {
            deadlines: quick,
            ..lab.options_for(&*NEVER)
        };
        check(
            &lab,
            never,
            "controller \"never\" was not ready to reconcile",
        )
        .await;
        check(
            &lab,
            lab.options_for(&*FAILING),
            "\"failing\" ended during its start: cannot begin: no disk",
        )
        .await;
        check(
            &lab,
            lab.options_for(&*PANICKING),
            "\"panicking\" ended during its start: it panicked: a bug",
        )
        .await;
        let refused = Options {
            admission: Arc::new(NoAdmission),
            ..lab.options("*", "start-1")
        };
        check(
            &lab,
            refused,
            "admission rules into service: cannot listen: out of order",
        )
        .await;
        // What failed left nothing that a correct start would stumble over.
        lab.start("*").await.stop().await;
    });
}

#[test]
fn slow_controllers_drain_side_by_side_under_one_deadline() {
    /// How long each of them takes to end.
    const SLOW: Duration = Duration::from_secs(3);
    fn lingering(name: &'static str) -> ControllerDef<World> {
        def(name, |context| {
            async move {
                context.synced().await;
                context.stopping().cancelled().await;
                tokio::time::sleep(SLOW).await;
                Ok(())
            }
            .boxed()
        })
    }
    static FOUR: std::sync::LazyLock<[ControllerDef<World>; 4]> =
        std::sync::LazyLock::new(|| ["one", "two", "three", "four"].map(lingering));
    lab::run(|lab| async move {
        let manager = rdd_manager::start(lab.options_for(&*FOUR)).await;
        let manager = manager.expect("they start");
        let begin = std::time::Instant::now();
        assert_eq!(manager.stop().await, Vec::<&str>::new());
        let taken = begin.elapsed();
        assert!(SLOW <= taken && taken < SLOW * 3, "{taken:?}");
        // Who does not end in time is aborted, and named.
        let options = Options {
            deadlines: Deadlines {
                drain: Duration::from_millis(200),
                ..Deadlines::default()
            },
            ..lab.options_for(&*FOUR)
        };
        let manager = rdd_manager::start(options).await.expect("they start");
        let mut aborted = manager.stop().await;
        aborted.sort_unstable();
        assert_eq!(aborted, ["four", "one", "three", "two"]);
    });
}

static RUNS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_controller_that_panics_later_is_run_again() {
    static FRAGILE: std::sync::LazyLock<[ControllerDef<World>; 1]> =
        std::sync::LazyLock::new(|| {
            [def("fragile", |context| {
                async move {
                    context.synced().await;
                    assert!(
                        RUNS.fetch_add(1, Ordering::SeqCst) > 0,
                        "the first run fails"
                    );
                    context.stopping().cancelled().await;
                    Ok(())
                }
                .boxed()
            })]
        });
    lab::run(|lab| async move {
        let manager = rdd_manager::start(lab.options_for(&*FRAGILE))
            .await
            .expect("it starts");
        lab.eventually("it runs again", || async {
            (RUNS.load(Ordering::SeqCst) == 2).then_some(())
        })
        .await;
        let report = manager.diagnostics().reports()["fragile"].clone();
        assert_eq!(report.restarts, 1);
        assert!(
            report
                .last_error
                .expect("it is told")
                .contains("the first run fails")
        );
        manager.stop().await;
    });
}

#[test]
fn a_held_controller_is_not_started_twice_and_a_dead_control_plane_holds_nothing() {
    lab::run(|lab| async move {
        let manager = lab.start("app").await;
        let second = Options {
            terms: Terms {
                patience: Duration::from_millis(50),
                ..Terms::external("app", "other")
            },
            ..lab.options("app,volume", "start-1")
        };
        let error = rdd_manager::start(second).await.expect_err("it is held");
        assert!(
            matches!(&error, Error::Held { controller: "app", holder } if holder == "embedded/start-1"),
            "{error}"
        );
        assert_eq!(holder(&lab, "volume").await, "", "all or none");
        // As after a kill: nothing is signed off.
        drop(manager);
        lab.begin("start-2").await;
        let manager = rdd_manager::start(lab.options("app", "start-2"))
            .await
            .expect("it takes over");
        assert_eq!(holder(&lab, "app").await, "embedded/start-2");
        manager.stop().await;
    });
}

#[test]
fn who_lost_its_lease_stops_and_writes_nothing_more() {
    static WRITER: std::sync::LazyLock<[ControllerDef<World>; 1]> =
        std::sync::LazyLock::new(|| {
            [def("writer", |context| {
                async move {
                    context.synced().await;
                    context.stopping().cancelled().await;
                    // One that does not heed its end is stopped by its client.
                    let api: Api<ConfigMap> = Api::namespaced(context.client(), "default");
                    let mut map = ConfigMap::default();
                    map.metadata.name = Some("late".to_owned());
                    api.create(&PostParams::default(), &map).await?;
                    Ok(())
                }
                .boxed()
            })]
        });
    lab::run(|lab| async move {
        let options = Options {
            terms: Terms {
                duration: Duration::from_millis(300),
                ..Terms::external("app", "first")
            },
            ..lab.options_for(&*WRITER)
        };
        let manager = rdd_manager::start(options).await.expect("it starts");
        let thief = json!({"spec": {"holderIdentity": "app/second"}});
        leases(&lab)
            .patch(
                "controller-writer",
                &PatchParams::default(),
                &Patch::Merge(&thief),
            )
            .await
            .expect("anybody may");
        let lost = tokio::time::timeout(Duration::from_secs(10), manager.lost()).await;
        assert_eq!(lost.expect("it is noticed"), "writer");
        manager.stop().await;
        let maps: Api<ConfigMap> = Api::namespaced(lab.client.clone(), "default");
        let late = maps.get_opt("late").await.expect("the server works");
        assert!(late.is_none(), "the write was not sent");
        assert_eq!(
            holder(&lab, "writer").await,
            "app/second",
            "what another holds stays"
        );
    });
}

#[test]
fn fifty_managers_register_and_leave_without_losing_each_other() {
    lab::run(|lab| async move {
        let created = lab.discovery().await.metadata.creation_timestamp;
        let discovery = Arc::new(rdd_manager::Discovery::new(
            lab.client.clone(),
            rdd_controllers::NAMES,
        ));
        let all = (0..50).map(|number| {
            let discovery = Arc::clone(&discovery);
            tokio::spawn(async move {
                let entry = Entry::new("m", 1, 1, vec![format!("c{number}")]);
                discovery
                    .register(&format!("m{number}"), &entry)
                    .await
                    .expect("it registers");
                if number % 2 == 0 {
                    discovery
                        .unregister(&format!("m{number}"), "m")
                        .await
                        .expect("it leaves");
                }
            })
        });
        for task in futures::future::join_all(all).await {
            task.expect("no panic");
        }
        let map = lab.discovery().await;
        assert_eq!(
            Entry::controllers(&map)
                .expect("parses")
                .expect("registered")
                .len(),
            25
        );
        assert_eq!(map.metadata.creation_timestamp, created);
    });
}
