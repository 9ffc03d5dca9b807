//! Which field of a JSON text lies at a line and column.
//!
//! The parser tells only the place. A parser that also keeps track of the field would cost each start that has nothing to complain
//! about, in time and in the memory its code takes.

/// Longest path that is shown, in characters: names of fields can be the attacker's.
const LONGEST: usize = 200;

/// The path of names and indices to the value at a line and a column, both counted from 1 as the parser does; "the whole" outside of
/// any field.
pub(super) fn field_at(json: &[u8], line: usize, column: usize) -> String {
    let end = offset(json, line, column).min(json.len());
    let mut walk = Walk::default();
    let mut at = 0;
    while at < end {
        at = walk.step(json, at);
    }
    let path = walk.path();
    if path.is_empty() { "the whole".to_owned() } else { path }
}

/// The offset of the byte behind a place.
fn offset(json: &[u8], line: usize, column: usize) -> usize {
    let starts = json.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let start = std::iter::once(0).chain(starts).nth(line.saturating_sub(1)).unwrap_or(json.len());
    start.saturating_add(column)
}

/// Where a value lies in what holds it.
enum Part {
    /// In an object: the name read last.
    Name(String),
    /// In an array: how many values came before.
    Index(usize),
}

/// A walk through a text, which may be broken anywhere.
#[derive(Default)]
struct Walk {
    parts: Vec<Part>,
    /// The string read last: a name, if a colon follows.
    string: String,
}

impl Walk {
    /// Goes one token on.
    fn step(&mut self, json: &[u8], at: usize) -> usize {
        match json[at] {
            b'{' => self.parts.push(Part::Name(String::new())),
            b'[' => self.parts.push(Part::Index(0)),
            b'}' | b']' => drop(self.parts.pop()),
            b':' => {
                if let Some(Part::Name(name)) = self.parts.last_mut() {
                    *name = std::mem::take(&mut self.string);
                }
            }
            b',' => match self.parts.last_mut() {
                Some(Part::Index(index)) => *index += 1,
                Some(Part::Name(name)) => name.clear(),
                None => {}
            },
            b'"' => return self.string(json, at + 1),
            _ => {}
        }
        at + 1
    }

    /// Reads a string from behind its quotation mark.
    fn string(&mut self, json: &[u8], start: usize) -> usize {
        let mut at = start;
        while at < json.len() && json[at] != b'"' {
            at += if json[at] == b'\\' { 2 } else { 1 };
        }
        let at = at.min(json.len());
        let text = String::from_utf8_lossy(&json[start..at]);
        self.string = text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        at + 1
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Name(name) if name.is_empty() => {}
                Part::Name(name) if path.is_empty() => path.push_str(name),
                Part::Name(name) => path.extend([".", name]),
                Part::Index(index) => path.push_str(&format!("[{index}]")),
            }
            if path.len() > LONGEST {
                path = path.chars().take(LONGEST).chain(['…']).collect();
                break;
            }
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::field_at;

    const TEXT: &str = "{\"a\": [1, {\"b\": {\"c, \\\"d\": true}}],\n \"e\": 5}";

    #[test]
    fn fields_are_found_by_place() {
        assert_eq!(field_at(TEXT.as_bytes(), 1, 8), "a[0]");
        let inside = TEXT.find("true").unwrap() + 2;
        assert_eq!(field_at(TEXT.as_bytes(), 1, inside), r#"a[1].b.c, \"d"#);
        assert_eq!(field_at(TEXT.as_bytes(), 2, 7), "e");
        assert_eq!(field_at(TEXT.as_bytes(), 1, 0), "the whole");
    }

    #[test]
    fn broken_texts_and_places_are_no_trouble() {
        let all = TEXT.as_bytes();
        for end in 0..=all.len() {
            for (line, column) in [(0, 0), (1, end), (2, 3), (9, 9), (usize::MAX, usize::MAX)] {
                let _ = field_at(&all[..end], line, column);
            }
        }
        let deep = "[".repeat(100_000);
        assert!(field_at(deep.as_bytes(), 1, 100_000).chars().count() <= 210);
    }
}
