//! Aligned columns.

/// Rows of cells as lines, each column as wide as its widest cell and two blanks apart from the next.
pub(crate) fn lines(head: &[&str], rows: &[Vec<String>]) -> String {
    let all = || std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()).chain(rows.iter().cloned());
    let width = |column: usize| all().map(|row| row.get(column).map_or(0, |cell| cell.chars().count())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["long".to_owned(), "c".to_owned()]];
        assert_eq!(super::lines(&["X", "Y"], &rows), "X     Y\na     b\nlong  c\n");
    }
}
