//! Replays what fuzzing starts from, as it is and changed at random.

use std::{fs, path::Path};

/// How often each input is changed, and how often those of a small corpus together.
/// The fuzz targets go on for as long as they are let.
const ROUNDS: usize = 300;
const ROUNDS_MIN: usize = 6000;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../corpus")
        .join(target);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| fs::read(path).expect("it can be read");
    paths.iter().map(read).collect()
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or(0) % most.max(1)
    }
}

/// Swaps, drops, repeats and mixes pieces of inputs.
fn change(input: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut changed = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(changed.len() + 1);
        let end = (at + random.below(12)).min(changed.len());
        match random.below(6) {
            0 => {
                changed.drain(at..end);
            }
            1 => {
                let piece = changed[at..end].to_vec();
                changed.splice(at..at, piece);
            }
            2 => {
                let other = &others[random.below(others.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(24)).min(other.len());
                changed.splice(at..end, other[from..to].iter().copied());
            }
            3 => {
                let signs = b"()[]{}.,?:&|!=<>+-*/%'\"\\0195eu_x \n";
                changed.insert(at, signs[random.below(signs.len())]);
            }
            4 => {
                let byte = u8::try_from(random.below(256)).unwrap_or(0);
                if let Some(place) = changed.get_mut(at) {
                    *place = byte;
                }
            }
            _ => {
                let piece = changed[at..end].to_vec();
                for _ in 0..random.below(40) {
                    changed.splice(at..at, piece.iter().copied());
                }
            }
        }
    }
    changed
}

/// Every input through its function, then changed. A panic's message says which.
fn replay(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let run = |input: &[u8]| {
        let outcome = std::panic::catch_unwind(|| target(input));
        assert!(
            outcome.is_ok(),
            "{name} broke on {:?}",
            String::from_utf8_lossy(input)
        );
    };
    let rounds = ROUNDS.max(ROUNDS_MIN / corpus.len());
    for input in &corpus {
        run(input);
        for _ in 0..rounds {
            run(&change(input, &corpus, &mut random));
        }
    }
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name), rdd_fuzz_targets::$name);
            }
        )*

        #[test]
        fn every_target_is_replayed_and_can_be_fuzzed() {
            let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            for (folder, ending) in [("corpus", ""), ("fuzz_targets", ".rs")] {
                let mut found: Vec<String> = fs::read_dir(fuzz.join(folder))
                    .expect("the folder is there")
                    .map(|entry| entry.expect("it can be listed").file_name())
                    .map(|name| name.to_string_lossy().trim_end_matches(ending).to_owned())
                    .collect();
                found.sort();
                assert_eq!(found, [$(stringify!($name)),*], "{folder}");
            }
        }
    };
}

targets!(
    apply,
    cel,
    json,
    json_patch,
    jsonpath,
    merge_patch,
    protobuf,
    schema,
    selector,
    strategic_patch,
    yaml
);
