//! A long JSON list, written piece by piece as its reader takes it.
//!
//! A list is held as the entries it was read as, whose bytes are the store's own. Only the
//! piece on its way to the connection is written out, so that neither the number of objects
//! nor a slow reader costs memory.

use bytes::{BufMut as _, Bytes, BytesMut};
use rdd_store::{Entry, Revision};

use crate::object;

/// How much is written at once; the piece with the last object of it is longer.
const PIECE: usize = 64 * 1024;

/// What stands behind the last item.
pub(crate) const TAIL: &[u8] = b"]}\n";

/// How an item of a list is written.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// As the object itself.
    Whole,
    /// Without `apiVersion` and `kind`, which a typed list says once.
    Item,
}

impl Form {
    /// Appends an item.
    pub(crate) fn splice(self, stored: &[u8], revision: Revision, out: &mut BytesMut) {
        match self {
            Self::Whole => object::splice(stored, revision, out),
            Self::Item => object::splice_item(stored, revision, out),
        }
    }
}

/// The pieces of a list of objects that are served as they are stored.
pub(crate) struct ListPieces {
    /// What stands before the first item, until it is written.
    head: Option<Bytes>,
    entries: std::vec::IntoIter<Entry>,
    form: Form,
    ended: bool,
}

impl ListPieces {
    /// A list that starts with `head`, which ends where the first item goes.
    pub(crate) fn new(head: Bytes, entries: Vec<Entry>, form: Form) -> Self {
        Self {
            head: Some(head),
            entries: entries.into_iter(),
            form,
            ended: false,
        }
    }
}

impl Iterator for ListPieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut piece = BytesMut::with_capacity(PIECE + PIECE / 8);
        let mut first = self.head.is_some();
        if let Some(head) = self.head.take() {
            piece.put_slice(&head);
        }
        while piece.len() < PIECE {
            let Some(entry) = self.entries.next() else {
                piece.put_slice(TAIL);
                self.ended = true;
                break;
            };
            if !std::mem::take(&mut first) {
                piece.put_u8(b',');
            }
            self.form.splice(&entry.value, entry.revision, &mut piece);
        }
        Some(piece.freeze())
    }
}

#[cfg(test)]
mod tests {
    use rdd_store::Key;
    use serde_json::Value;

    use super::*;

    fn entries(count: u64) -> Vec<Entry> {
        (1..=count)
            .map(|number| Entry {
                key: Key::new(format!("/registry/configmaps/a/{number}")),
                value: format!(
                    r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"n{number}"}},"data":{{"a":"{}"}}}}"#,
                    "x".repeat(700)
                )
                .into(),
                revision: Revision(number),
                created: Revision(number),
            })
            .collect()
    }

    #[test]
    fn pieces_make_the_list_of_every_length() {
        for count in [0, 1, 2, 79, 80, 81, 1_000] {
            let head = Bytes::from_static(br#"{"kind":"ConfigMapList","items":["#);
            let pieces: Vec<Bytes> = ListPieces::new(head, entries(count), Form::Item).collect();
            let list: Value = serde_json::from_slice(&pieces.concat()).expect("JSON");
            let items = list["items"].as_array().expect("items");
            let revisions: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
            let seen: Vec<&str> = items
                .iter()
                .filter_map(|item| item["metadata"]["resourceVersion"].as_str())
                .collect();
            assert_eq!(seen, revisions);
            assert!(pieces.iter().all(|piece| piece.len() < 2 * PIECE));
        }
    }
}
