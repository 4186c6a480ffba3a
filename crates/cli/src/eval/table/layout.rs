//! Making a table fit a terminal.

/// The width of a column: what its cells would like, and what they can do with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Width {
    pub(super) natural: usize,
    pub(super) least: usize,
}

/// Takes from the widest column that can give until all of them, and the gaps between, fit `limit`. Columns of width 0 are
/// left out. A limit that is too narrow for what columns can do with is not met.
pub(super) fn fit(columns: &mut [Width], gap: usize, limit: usize) {
    let shown = columns.iter().filter(|column| column.natural > 0).count();
    let gaps = gap.saturating_mul(shown.saturating_sub(1));
    let mut total: usize = columns.iter().map(|column| column.natural).sum::<usize>().saturating_add(gaps);
    while total > limit {
        let giving = columns.iter_mut().filter(|column| column.natural > column.least);
        let Some(widest) = giving.max_by_key(|column| column.natural) else { return };
        widest.natural = widest.natural.saturating_sub(1);
        total = total.saturating_sub(1);
    }
}

/// `text` in lines of at most `width` characters: cut at spaces, else behind `/`, `-`, `.` or `:`, else anywhere.
pub(super) fn wrap(text: &str, width: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    loop {
        let Some((end, _)) = rest.char_indices().nth(width).filter(|_| width > 0) else {
            lines.push(rest);
            return lines;
        };
        // A space right behind the line is a place to cut, too.
        let head = rest.get(..end).unwrap_or_default();
        let cut = if rest.get(end..).is_some_and(|tail| tail.starts_with(' ')) {
            end
        } else if let Some(space) = head.rfind(' ').filter(|space| *space > 0) {
            space
        } else if let Some(mark) = head.rfind(['/', '-', '.', ':']) {
            mark.saturating_add(1)
        } else {
            end
        };
        let (line, tail) = rest.split_at_checked(cut).unwrap_or((rest, ""));
        lines.push(line);
        rest = tail.trim_start_matches(' ');
        if rest.is_empty() {
            return lines;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_columns_give_first_and_none_more_than_it_can() {
        let widths = |natural: [usize; 4], least: [usize; 4], limit| {
            let mut columns = [0, 1, 2, 3].map(|i: usize| Width { natural: natural[i], least: least[i] });
            fit(&mut columns, 2, limit);
            columns.map(|column| column.natural)
        };
        let least = [8, 8, 7, 8];
        assert_eq!(widths([10, 20, 7, 40], least, 83), [10, 20, 7, 40]);
        assert_eq!(widths([10, 20, 7, 40], least, 63), [10, 20, 7, 20]);
        assert_eq!(widths([10, 20, 7, 40], least, 53), [10, 15, 7, 15]);
        assert_eq!(widths([10, 20, 7, 40], least, 10), [8, 8, 7, 8], "never less than they can do with");
        assert_eq!(widths([0, 20, 7, 40], least, 47), [0, 18, 7, 18], "a column that is left out has no gap");
    }

    #[test]
    fn lines_are_cut_at_the_best_place() {
        for (text, width, lines) in [
            ("", 5, &[""][..]),
            ("short", 5, &["short"]),
            ("one two three", 7, &["one two", "three"]),
            ("one two three", 6, &["one", "two", "three"]),
            ("yaobank/database", 10, &["yaobank/", "database"]),
            ("abcdefghij", 4, &["abcd", "efgh", "ij"]),
            ("käse käse", 4, &["käse", "käse"]),
            ("a  b", 1, &["a", "b"]),
        ] {
            assert_eq!(wrap(text, width), lines, "{text:?} {width}");
        }
    }
}
