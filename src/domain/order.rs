//! `order_by` of lists, as AIP-132 writes it.

use super::Invalid;

/// By what a list is sorted. Equal ones follow each other in the list's own order, whatever the direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderBy<F> {
    /// The field.
    pub field: F,
    /// Largest first.
    pub descending: bool,
}

/// The longest text, in bytes.
const MAX_BYTES: usize = 256;

impl<F: Copy> OrderBy<F> {
    /// Reads `field`, `field asc` or `field desc`; an empty text is `None`, the list's own order.
    ///
    /// AIP-132 allows several fields. Here it is one: the list's own order decides between equal ones.
    ///
    /// # Errors
    /// If the text is anything else, or there is no such field.
    pub fn parse(text: &str, fields: &[(&str, F)]) -> Result<Option<Self>, Invalid> {
        let refused = |what: &str| {
            let known: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
            Invalid::owned(format!(
                "{what}; write one of {}, then nothing, 'asc' or 'desc'",
                known.join(", ")
            ))
        };
        if text.len() > MAX_BYTES {
            return Err(refused("is too long"));
        }
        if text.contains(',') {
            return Err(refused("names more than one field"));
        }
        let mut words = text.split_ascii_whitespace();
        let Some(name) = words.next() else {
            return Ok(None);
        };
        let field = fields.iter().find(|(known, _)| *known == name);
        let &(_, field) = field.ok_or_else(|| refused("names no field to sort by"))?;
        let descending = match words.next() {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(_) => return Err(refused("has no such direction")),
        };
        match words.next() {
            None => Ok(Some(Self { field, descending })),
            Some(_) => Err(refused("says more than a field and its direction")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_and_its_direction() {
        let fields = [("name", 1), ("create_time", 2)];
        let parse = |text| OrderBy::parse(text, &fields);
        for none in ["", "  "] {
            assert_eq!(parse(none), Ok(None));
        }
        for (text, field, descending) in [
            ("name", 1, false),
            (" create_time  asc ", 2, false),
            ("create_time desc", 2, true),
        ] {
            assert_eq!(parse(text), Ok(Some(OrderBy { field, descending })));
        }
        for bad in [
            "other",
            "name,create_time",
            "name,",
            "name up",
            "name DESC",
            "name desc desc",
            "desc",
            "Name",
            &"name ".repeat(100),
        ] {
            let why = parse(bad).expect_err(bad);
            assert!(why.0.contains("name, create_time"), "{why}");
        }
    }
}
