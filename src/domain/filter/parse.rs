//! From text to a tree.

use std::borrow::Cow;

use super::{
    Comparison, Invalid, MAX_BYTES, MAX_COMPARISONS, MAX_DEPTH, Node, Operator, Value, shown,
};

/// Reads a filter; `bind` turns each comparison into what is asked of a thing, where `!=` asks the same as `=`.
pub(super) fn parse<P>(
    text: &str,
    bind: impl FnMut(&Comparison<'_>) -> Result<P, Invalid>,
) -> Result<Node<P>, Invalid> {
    // Before anything else looks at it.
    if text.len() > MAX_BYTES {
        return Err(Invalid::owned(format!(
            "must have at most {MAX_BYTES} bytes"
        )));
    }
    let mut parser = Parser {
        text,
        at: 0,
        comparisons: 0,
        bind,
    };
    parser.skip_space();
    if parser.rest().is_empty() {
        return Ok(Node::All(Box::default()));
    }
    let node = parser.expression(0)?;
    if parser.rest().is_empty() {
        Ok(node)
    } else {
        Err(parser.expected("AND, OR or the end"))
    }
}

struct Parser<'t, B> {
    text: &'t str,
    /// In bytes. What was read is followed by no space.
    at: usize,
    comparisons: usize,
    bind: B,
}

impl<'t, P, B: FnMut(&Comparison<'_>) -> Result<P, Invalid>> Parser<'t, B> {
    /// Terms joined by AND, each of alternatives joined by OR. `depth` is the number of parentheses around.
    fn expression(&mut self, depth: usize) -> Result<Node<P>, Invalid> {
        let mut all = vec![self.alternatives(depth)?];
        while self.keyword("AND") {
            all.push(self.alternatives(depth)?);
        }
        Ok(one_or(all, Node::All))
    }

    fn alternatives(&mut self, depth: usize) -> Result<Node<P>, Invalid> {
        let mut any = vec![self.term(depth)?];
        while self.keyword("OR") {
            any.push(self.term(depth)?);
        }
        Ok(one_or(any, Node::Any))
    }

    fn term(&mut self, depth: usize) -> Result<Node<P>, Invalid> {
        // At most one: the grammar has no NOT of a NOT, so only parentheses nest.
        let negated = self.keyword("NOT") || self.sign("-");
        let node = if self.sign("(") {
            self.parenthesis(depth + 1)?
        } else {
            self.comparison()?
        };
        Ok(if negated { not(node) } else { node })
    }

    /// What follows a `(`.
    fn parenthesis(&mut self, depth: usize) -> Result<Node<P>, Invalid> {
        // Each level takes stack, and whoever writes the filter chooses the level.
        if depth > MAX_DEPTH {
            return Err(self.refused(&format!("more than {MAX_DEPTH} parentheses are open")));
        }
        let node = self.expression(depth)?;
        if !self.sign(")") {
            return Err(self.expected("AND, OR or ')'"));
        }
        Ok(node)
    }

    fn comparison(&mut self) -> Result<Node<P>, Invalid> {
        let begin = self.at;
        if self.comparisons == MAX_COMPARISONS {
            return Err(self.refused(&format!("more than {MAX_COMPARISONS} comparisons")));
        }
        self.comparisons += 1;
        let path = self.path()?;
        let operator = self.operator()?;
        let value = self.value()?;
        let comparison = Comparison {
            path,
            operator,
            value,
        };
        let asked = (self.bind)(&comparison).map_err(|why| self.refused_at(begin, &why.0))?;
        Ok(match operator {
            Operator::NotEqual => not(Node::Is(asked)),
            _ => Node::Is(asked),
        })
    }

    /// Names with dots between. The first is a word; the others may be quoted.
    fn path(&mut self) -> Result<Vec<Cow<'t, str>>, Invalid> {
        const NAME: &str = "the name of a field";
        let begin = self.at;
        let first = self.take_while(is_in_name);
        if first.is_empty() || first.starts_with('-') || is_keyword(first) {
            return Err(self.expected_at(begin, NAME));
        }
        let mut path = vec![Cow::Borrowed(first)];
        while self.rest().starts_with('.') {
            self.at += 1;
            let name = match self.peek() {
                Some('"' | '\'') => self.quoted()?.text,
                _ => Cow::Borrowed(self.take_while(is_in_name)),
            };
            if name.is_empty() {
                return Err(self.expected("a name after the dot"));
            }
            path.push(name);
        }
        self.skip_space();
        Ok(path)
    }

    fn operator(&mut self) -> Result<Operator, Invalid> {
        // The longer ones first.
        const SIGNS: [Operator; 7] = [
            Operator::LessOrEqual,
            Operator::GreaterOrEqual,
            Operator::NotEqual,
            Operator::Equal,
            Operator::Less,
            Operator::Greater,
            Operator::Has,
        ];
        SIGNS
            .into_iter()
            .find(|operator| self.sign(operator.sign()))
            .ok_or_else(|| self.expected("one of = != < <= > >= :"))
    }

    fn value(&mut self) -> Result<Value<'t>, Invalid> {
        const VALUE: &str = "a value: a word, or a text in quotes";
        if let Some('"' | '\'') = self.peek() {
            let value = self.quoted()?;
            self.skip_space();
            return Ok(value);
        }
        let begin = self.at;
        let word = self.take_while(is_in_word);
        if word.is_empty() {
            return Err(self.expected(VALUE));
        }
        if is_keyword(word) {
            return Err(self.expected_at(begin, VALUE));
        }
        self.skip_space();
        Ok(Value {
            text: Cow::Borrowed(word),
            star_first: word.starts_with('*'),
            star_last: word.ends_with('*'),
        })
    }

    /// A text in quotes; the parser stands before the first.
    fn quoted(&mut self) -> Result<Value<'t>, Invalid> {
        let begin = self.at;
        let mut chars = self.rest().char_indices();
        let quote = chars.next().map(|(_, quote)| quote);
        let mut text = String::new();
        let (mut star_first, mut star_last) = (false, false);
        while let Some((offset, c)) = chars.next() {
            if Some(c) == quote {
                self.at = begin + offset + c.len_utf8();
                return Ok(Value {
                    text: Cow::Owned(text),
                    star_first,
                    star_last,
                });
            }
            let c = match c {
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\'' | '\\' | '*'))) => {
                        star_last = false;
                        c
                    }
                    _ => {
                        return Err(self.expected_at(
                            begin + offset + 1,
                            r#"one of " ' \ * after the backslash"#,
                        ));
                    }
                },
                c => {
                    star_last = c == '*';
                    star_first |= text.is_empty() && star_last;
                    c
                }
            };
            text.push(c);
        }
        Err(self.refused_at(begin, "the quote is not closed"))
    }

    /// Passes over a keyword, if it stands here by itself.
    fn keyword(&mut self, keyword: &str) -> bool {
        let Some(rest) = self.rest().strip_prefix(keyword) else {
            return false;
        };
        if rest.starts_with(is_in_name) {
            return false;
        }
        self.at += keyword.len();
        self.skip_space();
        true
    }

    /// Passes over a sign, if it stands here.
    fn sign(&mut self, sign: &str) -> bool {
        let stands_here = self.rest().starts_with(sign);
        if stands_here {
            self.at += sign.len();
            self.skip_space();
        }
        stands_here
    }

    fn take_while(&mut self, belongs: fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip_space(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn expected(&self, what: &str) -> Invalid {
        self.expected_at(self.at, what)
    }

    fn expected_at(&self, at: usize, what: &str) -> Invalid {
        let found = match self.text[at..].chars().next() {
            Some(c) => format!("not '{}'", shown(c.encode_utf8(&mut [0; 4]))),
            None => "not the end".to_owned(),
        };
        self.refused_at(at, &format!("expected {what}, {found}"))
    }

    fn refused(&self, why: &str) -> Invalid {
        self.refused_at(self.at, why)
    }

    /// People count characters, from 1.
    fn refused_at(&self, at: usize, why: &str) -> Invalid {
        let character = self.text[..at].chars().count() + 1;
        Invalid::owned(format!("at character {character}: {why}"))
    }
}

fn one_or<P>(mut nodes: Vec<Node<P>>, join: fn(Box<[Node<P>]>) -> Node<P>) -> Node<P> {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        last => {
            nodes.extend(last);
            join(nodes.into())
        }
    }
}

fn not<P>(node: Node<P>) -> Node<P> {
    match node {
        Node::Not(inner) => *inner,
        node => Node::Not(Box::new(node)),
    }
}

fn is_in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn is_in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '*' | '/' | ':' | '+' | '-')
}

/// `a = AND b` is a slip, not a comparison with the word.
fn is_keyword(word: &str) -> bool {
    matches!(word, "AND" | "OR" | "NOT")
}
