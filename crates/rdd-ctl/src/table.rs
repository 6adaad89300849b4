//! Tables for people: kubectl's columns, cut to fit where a terminal shows them.

use std::io::IsTerminal as _;

/// Blanks between columns, and how few they become where little fits.
const GAP: usize = 3;
const TIGHT_GAP: usize = 2;

/// The narrowest that a column is; kubectl's tables have no narrower ones.
const LEAST: usize = 3;

/// The narrowest that a column is cut to, and where even that is too wide.
const NARROW: usize = 12;
const NARROWEST: usize = 7;

/// Rows under headings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) headings: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// The lines, with or without headings, at most `width` letters wide if one is given.
    pub(crate) fn lines(&self, headings: bool, width: Option<usize>) -> Vec<String> {
        let all = || {
            headings
                .then_some(&self.headings)
                .into_iter()
                .chain(&self.rows)
        };
        let columns = all().map(Vec::len).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..columns)
            .map(|column| {
                all()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
                    .max(LEAST)
            })
            .collect();
        let gap = width.map_or(GAP, |width| {
            self.shrink_identifiers(&mut widths, width);
            shrink(&mut widths, width)
        });
        all()
            .map(|row| {
                let mut line = String::new();
                for (column, cell) in row.iter().enumerate() {
                    let cell = cut(cell, widths[column]);
                    line.push_str(&cell);
                    if column + 1 < row.len() {
                        let blanks = widths[column] - cell.chars().count() + gap;
                        line.extend(std::iter::repeat_n(' ', blanks));
                    }
                }
                line
            })
            .collect()
    }
}

impl Table {
    /// Takes from columns of identifiers first, as much as is needed.
    fn shrink_identifiers(&self, widths: &mut [usize], width: usize) {
        for column in 0..widths.len() {
            let mut cells = self.rows.iter().filter_map(|row| row.get(column));
            let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
            let excess = total.saturating_sub(width);
            if excess > 0 && !self.rows.is_empty() && cells.all(|cell| is_identifier(cell)) {
                let most = widths[column].saturating_sub(NARROW);
                widths[column] -= excess.min(most);
            }
        }
    }
}

/// Whether this is a hash, behind whatever word says of what. Nobody reads one whole.
fn is_identifier(cell: &str) -> bool {
    let hash = cell.rsplit(['-', ':']).next().unwrap_or_default();
    hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Takes from the widest column until all fit, and from the blanks between them when that
/// does not suffice; how many blanks are left.
fn shrink(widths: &mut [usize], width: usize) -> usize {
    for (gap, least) in [(GAP, NARROW), (TIGHT_GAP, NARROW), (TIGHT_GAP, NARROWEST)] {
        let gaps = gap * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > width {
            let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > least) else {
                break;
            };
            *widest -= 1;
        }
        if widths.iter().sum::<usize>() + gaps <= width {
            return gap;
        }
    }
    TIGHT_GAP
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let mut short: String = cell.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// How wide the terminal is; `None` when the output goes elsewhere and nothing is cut.
pub(crate) fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(&stdout)
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|width| *width > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        Table {
            headings: row(["NAME", "DATA", "AGE"]),
            rows: vec![
                row(["a", "1", "5s"]),
                row(["a-very-long-name-of-an-object", "12", "3h"]),
            ],
        }
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(
            table().lines(true, None),
            [
                "NAME                            DATA   AGE",
                "a                               1      5s",
                "a-very-long-name-of-an-object   12     3h",
            ]
        );
        assert_eq!(
            table().lines(false, None)[0],
            "a                               1     5s"
        );
    }

    #[test]
    fn a_terminal_gets_what_fits() {
        let lines = table().lines(true, Some(30));
        assert!(
            lines.iter().all(|line| line.chars().count() <= 30),
            "{lines:?}"
        );
        assert!(lines[2].contains('…'));
    }

    #[test]
    fn eight_columns_fit_on_a_small_terminal() {
        let row = |cells: [&str; 8]| cells.map(str::to_owned).to_vec();
        let table = Table {
            headings: row([
                "NAME",
                "CONTAINER",
                "IMAGE",
                "STATE",
                "HEALTH",
                "PORTS",
                "PROJECT",
                "AGE",
            ]),
            rows: vec![row([
                "06411684073dc0a67843d52ecc7ee58dcb8b7ef9cdd6a2f47b58b039387e4e05",
                "shop-database-1",
                "registry.example/team/database:2025-11-25",
                "restarting (1)",
                "unhealthy",
                "127.0.0.1:8443->443/tcp, 8080->80/tcp",
                "shop",
                "4s",
            ])],
        };
        for (width, name) in [(80, 7), (120, 12)] {
            let lines = table.lines(true, Some(width));
            assert!(
                lines.iter().all(|line| line.chars().count() <= width),
                "{lines:#?}"
            );
            // Enough of the identifier to be asked for by it.
            let shown = lines[1].split('…').next().unwrap_or_default();
            assert!(shown.len() + 1 >= name, "{lines:#?}");
            let is_whole = lines[1].contains("shop-database-1");
            assert_eq!(is_whole, width == 120, "{lines:#?}");
        }
    }
}
