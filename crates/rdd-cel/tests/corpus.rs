//! Replays what fuzzing starts from, as it is and changed at random.

use std::{fs, path::Path};

#[path = "fuzz/body.rs"]
mod body;

/// How often each input is changed. The fuzz target goes on for as long as it is let.
const ROUNDS: u64 = 300;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/cel");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .expect("there is a corpus")
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
                let from = random.below(other.len());
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

#[test]
fn every_input_ends_within_its_budget() {
    let corpus = corpus();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for input in &corpus {
        assert!(body::run(input) <= body::LIMIT);
        for _ in 0..ROUNDS {
            let changed = change(input, &corpus, &mut random);
            assert!(body::run(&changed) <= body::LIMIT);
        }
    }
    assert!(corpus.len() > 50, "the corpus has {} inputs", corpus.len());
}
