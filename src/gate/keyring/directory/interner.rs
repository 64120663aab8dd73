//! Values that many rows share, kept once.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// Stands for a value in a row. It is given to another value once no row has it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gate::keyring) struct Token(u32);

/// The values.
pub(in crate::gate::keyring) struct Interner<T> {
    /// By token: the value and in how many rows it is.
    values: Vec<(T, u32)>,
    tokens: HashMap<T, Token>,
    free: Vec<Token>,
    /// How often a token was given to another value.
    reused: u64,
}

impl<T: Clone + Eq + Hash> Interner<T> {
    /// The token of a value, for one more row.
    pub(super) fn take(&mut self, value: T) -> Token {
        if let Some(&token) = self.tokens.get(&value) {
            self.values[token.index()].1 += 1;
            return token;
        }
        let token = if let Some(token) = self.free.pop() {
            self.values[token.index()] = (value.clone(), 1);
            self.reused += 1;
            token
        } else {
            let next = u32::try_from(self.values.len());
            self.values.push((value.clone(), 1));
            Token(next.expect("there are fewer than 2^32 keys in memory"))
        };
        self.tokens.insert(value, token);
        token
    }

    /// One row less has the value.
    pub(super) fn release(&mut self, token: Token) {
        let (value, rows) = &mut self.values[token.index()];
        *rows -= 1;
        if *rows == 0 {
            self.tokens.remove(value);
            self.free.push(token);
        }
    }

    /// The value of a token that a row has.
    pub(in crate::gate::keyring) fn get(&self, token: Token) -> &T {
        &self.values[token.index()].0
    }

    /// The token of a value, if a row has it.
    pub(in crate::gate::keyring) fn find<Q: Eq + Hash + ?Sized>(&self, value: &Q) -> Option<Token>
    where
        T: Borrow<Q>,
    {
        self.tokens.get(value).copied()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// As long as this is the same, so are the values of all tokens that were there.
    pub(in crate::gate::keyring) const fn reused(&self) -> u64 {
        self.reused
    }
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            tokens: HashMap::new(),
            free: Vec::new(),
            reused: 0,
        }
    }
}

impl Token {
    pub(in crate::gate::keyring) const fn index(self) -> usize {
        self.0 as usize
    }
}
