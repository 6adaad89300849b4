//! What can happen, and random histories of it.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

const STEPS: usize = 60;

/// Writes of a container that an action needs at most, and those that follow from what
/// it changes: a crash can come after any of them.
const WRITES: usize = 7;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    // What the engine's other users do.
    Run(usize),
    Turn(usize, &'static str),
    Remove(usize),
    Tag(usize, usize),
    RemoveImage(usize),
    MakeVolume(usize),
    RemoveVolume(usize),
    // What the API's users do.
    Delete(usize),
    DeleteImage(usize),
    DeleteVolume(usize),
    Act(usize, &'static str),
    Want(usize, &'static str),
    StripFinalizer(usize),
    AskForContainer(usize),
    AskForVolume(usize),
    AskForImage(usize),
    // What goes wrong.
    Fault(Fault),
    /// One container, one image and one volume cannot be read.
    Unreadable(usize),
    Mend,
    Cut,
    Crash,
    /// An action, and a crash once so many writes of its container have succeeded.
    ActAndCrash(usize, &'static str, usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    Down,
    LoseEvents,
    RepeatEvents,
    ReverseEvents,
    FailInspections,
    RefuseRemovals(u16),
    ClockAhead(i64),
    FailWrites,
    Hang,
    LoseAnswers,
    RefuseCreations,
}

/// One history per number. Every other one loses no events: then nothing but they may
/// be needed to find out what has changed.
pub(super) fn history(seed: u64) -> Vec<Step> {
    const FAULTS: [Fault; 12] = [
        Fault::Down,
        Fault::RepeatEvents,
        Fault::ReverseEvents,
        Fault::FailInspections,
        Fault::RefuseRemovals(500),
        Fault::RefuseRemovals(403),
        Fault::ClockAhead(3600),
        Fault::FailWrites,
        Fault::Hang,
        Fault::LoseAnswers,
        Fault::RefuseCreations,
        Fault::LoseEvents,
    ];
    const ACTIONS: [&str; 5] = ["start", "stop", "pause", "unpause", "restart"];
    let possible = if seed.is_multiple_of(2) {
        &FAULTS[..]
    } else {
        &FAULTS[..FAULTS.len() - 1]
    };
    let mut dice = StdRng::seed_from_u64(seed);
    let (mut runs, mut volumes, mut requests) = (0, 0, 0);
    let mut steps = Vec::new();
    while steps.len() < STEPS {
        let any = dice.random_range(0..runs.max(1));
        let volume = dice.random_range(0..volumes.max(1));
        let picture = dice.random_range(0..4);
        let pick = |dice: &mut StdRng, words: &[&'static str]| *words.choose(dice).expect("some");
        steps.push(match dice.random_range(0..42) {
            0..=4 => {
                runs += 1;
                Step::Run(runs - 1)
            }
            5..=7 => Step::Turn(any, pick(&mut dice, &["running", "exited", "paused"])),
            8 | 9 => Step::Remove(any),
            10..=12 => Step::Tag(picture, dice.random_range(0..5)),
            13 => Step::RemoveImage(picture),
            14 | 15 => {
                volumes += 1;
                Step::MakeVolume(volumes - 1)
            }
            16 => Step::RemoveVolume(volume),
            17 | 18 => Step::Delete(any),
            19 => Step::DeleteImage(dice.random_range(0..5)),
            20 => Step::DeleteVolume(volume),
            21..=23 => Step::Act(any, pick(&mut dice, &ACTIONS)),
            24 => Step::Want(any, pick(&mut dice, &["running", "created", "unknown"])),
            25 => Step::StripFinalizer(any),
            26..=28 => Step::Fault(*possible.choose(&mut dice).expect("some")),
            29 | 30 => Step::Mend,
            31 => Step::Cut,
            32 => Step::Crash,
            33..=36 => {
                requests += 1;
                match dice.random_range(0..3) {
                    0 => Step::AskForContainer(requests),
                    1 => Step::AskForVolume(requests),
                    _ => Step::AskForImage(requests),
                }
            }
            37 => Step::Unreadable(any),
            38 | 39 => Step::ActAndCrash(any, "restart", dice.random_range(0..WRITES)),
            40 => Step::ActAndCrash(any, pick(&mut dice, &ACTIONS), dice.random_range(0..WRITES)),
            _ => Step::Turn(any, "running"),
        });
    }
    steps
}
