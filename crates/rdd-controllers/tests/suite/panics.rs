//! Bugs that panic, wherever they are: each shows, and the mirror goes on.

use std::time::Duration;

use rdd_api::ContainerState;
use rdd_controllers::World;
use rdd_manager::Report;
use serde_json::json;

use crate::lab;
use crate::story::{Story, container, eventually, id, story};

/// The engine controller's record, once it is as wanted.
async fn report(story: &Story, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
    let manager = story.manager.as_ref().expect("it runs");
    eventually(what, || async {
        let report = manager.diagnostics().reports().remove("engine");
        match report {
            Some(report) if wanted(&report) => Ok(report),
            other => Err(other),
        }
    })
    .await
}

fn tells(report: &Report, text: &str) -> bool {
    let error = report.last_error.as_deref();
    error.is_some_and(|error| error.contains(text))
}

#[test]
fn one_object_whose_handling_panics_holds_no_other_up_and_is_tried_again() {
    story(|story| async move {
        let uids = story.uids().await;
        story
            .engine
            .fault(|faults| faults.panic_at.extend([id("web")]));
        story
            .engine
            .put_container(container("web", "paused"), "pause");
        let text = "the work on it panicked";
        let before = report(&story, "it is told", |report| tells(report, text)).await;
        story
            .engine
            .put_container(container("db", "running"), "start");
        story.state("db", ContainerState::Running).await;
        story.state("web", ContainerState::Running).await;
        assert_eq!(story.condition().await, "True/Connected");
        report(&story, "it is tried again", |report| {
            report.failures > before.failures
        })
        .await;
        story.engine.fault(|faults| faults.panic_at.clear());
        // Without a further event.
        story.state("web", ContainerState::Paused).await;
        story.engine.take_container(&id("db"));
        story.mirror("db", |mirror| mirror.is_none()).await;
        assert_eq!(story.uids().await, uids, "nothing was made anew");
        let after = report(&story, "it is there", |_| true).await;
        assert_eq!(after.restarts, 0, "only the work on the object was lost");
    });
}

#[test]
fn a_panic_while_connecting_runs_the_controller_again() {
    story(|story| async move {
        let uids = story.uids().await;
        story
            .engine
            .fault(|faults| faults.panic_next = Some("events"));
        story.engine.cut_streams();
        let after = report(&story, "it runs again", |report| report.restarts == 1).await;
        assert!(tells(&after, "told to panic"), "{after:?}");
        story
            .engine
            .put_container(container("db", "running"), "start");
        story.state("db", ContainerState::Running).await;
        story.ready("True/Connected").await;
        story.engine.take_container(&id("db"));
        story.mirror("db", |mirror| mirror.is_none()).await;
        assert_eq!(story.uids().await, uids, "nothing was made anew");
        assert!(story.calls().is_empty(), "the engine was told nothing");
    });
}

#[test]
fn a_panic_of_whoever_reads_the_events_is_a_lost_connection() {
    lab::run(|mut lab| async move {
        let mut world = World::clone(&lab.world);
        world.silence = Duration::from_millis(20);
        lab.use_world(world);
        let story = Story::begin(lab).await;
        // Whoever reads the events asks at every silence whether the engine is there.
        story.engine.fault(|faults| {
            faults.panic_next = Some("ping");
            faults.down = true;
        });
        story.ready("False/ConnectFailed").await;
        story.engine.fault(|faults| faults.down = false);
        story.ready("True/Connected").await;
        story
            .engine
            .put_container(container("db", "running"), "start");
        story.state("db", ContainerState::Running).await;
        let after = report(&story, "it is there", |_| true).await;
        assert_eq!(after.restarts, 0, "{}", json!(after));
    });
}
