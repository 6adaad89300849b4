//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write as _};

/// The media type of the format.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text under construction. All samples of a family must follow its head.
#[derive(Clone, Debug, Default)]
pub struct Exposition(String);

// Writing to a `String` cannot fail, so that the outcomes are dropped below.
impl Exposition {
    /// Begins a family: `kind` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One value of the family.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        self.labels(labels, None);
        let _infallible = writeln!(self.0, " {value}");
    }

    /// A histogram: `counts` has one more entry than `bounds`, for what lies above them all,
    /// and none of them includes the ones below it.
    pub(crate) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        let mut total = 0;
        for (index, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds
                .get(index)
                .map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let _infallible = write!(self.0, "{name}_bucket");
            self.labels(labels, Some(&bound));
            let _infallible = writeln!(self.0, " {total}");
        }
        for (part, value) in [("sum", sum), ("count", total as f64)] {
            let _infallible = write!(self.0, "{name}_{part}");
            self.labels(labels, None);
            let _infallible = writeln!(self.0, " {value}");
        }
    }

    /// Samples that are text in this format already.
    pub fn text(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn labels(&mut self, labels: &[(&str, &str)], bound: Option<&str>) {
        let bound = bound.map(|bound| ("le", bound));
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            let _infallible = write!(self.0, "{separator}{name}=\"");
            for character in value.chars() {
                match character {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.0.push('}');
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_labels_are_escaped() {
        let mut out = Exposition::default();
        out.family("t", "histogram", "Time.");
        out.histogram("t", &[("a", "\"\\\n")], &[0.5, 1.0], &[1, 2, 3], 7.5);
        out.sample("g", &[], 4);
        let labels = r#"a="\"\\\n""#;
        let expect = format!(
            "# HELP t Time.\n# TYPE t histogram\n\
             t_bucket{{{labels},le=\"0.5\"}} 1\nt_bucket{{{labels},le=\"1\"}} 3\n\
             t_bucket{{{labels},le=\"+Inf\"}} 6\n\
             t_sum{{{labels}}} 7.5\nt_count{{{labels}}} 6\ng 4\n"
        );
        assert_eq!(out.into_text(), expect);
    }
}
