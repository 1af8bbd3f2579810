//! Which methods a route names, and what a request's method may match.

use std::fmt;

use http::Method;

/// The methods a route can name, sorted. TRACE and CONNECT are off (S39).
pub static NAMEABLE: [Method; 7] =
    [Method::DELETE, Method::GET, Method::HEAD, Method::OPTIONS, Method::PATCH, Method::POST, Method::PUT];

/// The methods a route names. `GET` includes HEAD unless the route, or another one on the same path, names HEAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Methods {
    /// The key names none: every method but TRACE and CONNECT.
    Any,
    /// Some of [`NAMEABLE`], sorted, without repetition.
    Named(Vec<Method>),
}

/// As a key writes them: `GET|POST`; nothing for every method.
impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Named(methods) => write_joined(f, methods),
        }
    }
}

/// A set of methods, one bit each: those of [`NAMEABLE`], and one for all that no route can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct MethodSet(u8);

impl MethodSet {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self(0xff);
    pub(super) const GET: Self = Self(1 << 1);
    pub(super) const HEAD: Self = Self(1 << 2);
    /// The methods that no route can name. A route that names none is the one for these, so they stand for it.
    pub(super) const OTHERS: Self = Self(1 << 7);

    /// The method of a request. TRACE and CONNECT are in no set, so no route matches them.
    pub(super) fn of(method: &Method) -> Self {
        match *method {
            Method::TRACE | Method::CONNECT => Self::NONE,
            _ => Self::nameable(method).unwrap_or(Self::OTHERS),
        }
    }

    /// The method of a request as a backend reads it that is not particular about letters: `get` is not GET, but the
    /// backend may think so (S39).
    pub(super) fn read_loosely(method: &Method) -> Self {
        if !method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Self::of(method);
        }
        let capitals = Method::from_bytes(method.as_str().to_ascii_uppercase().as_bytes());
        Self::of(capitals.as_ref().unwrap_or(method))
    }

    /// What a route names; [`OTHERS`](Self::OTHERS) when it names none.
    pub(super) fn named(methods: &Methods) -> Self {
        match methods {
            Methods::Any => Self::OTHERS,
            Methods::Named(methods) => {
                methods.iter().filter_map(Self::nameable).fold(Self::NONE, |all, one| all.union(one))
            }
        }
    }

    fn nameable(method: &Method) -> Option<Self> {
        NAMEABLE.iter().position(|known| known == method).map(|bit| Self(1 << bit))
    }

    pub(super) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Each member as a set of its own.
    pub(super) fn each(self) -> impl Iterator<Item = Self> {
        (0..8).map(|bit| Self(1 << bit)).filter(move |one| self.meets(*one))
    }

    /// The members that have a name.
    pub(super) fn names(self) -> Vec<Method> {
        NAMEABLE.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| name.clone()).collect()
    }

    /// The shortest list of methods whose route would cover this set.
    pub(super) fn to_methods(self) -> Methods {
        if self.meets(Self::OTHERS) {
            return Methods::Any;
        }
        let implied = if self.meets(Self::GET) { Self::HEAD } else { Self::NONE };
        Methods::Named(self.without(implied).names())
    }
}

pub(super) fn write_joined(f: &mut fmt::Formatter<'_>, methods: &[Method]) -> fmt::Result {
    for (position, method) in methods.iter().enumerate() {
        if position > 0 {
            f.write_str("|")?;
        }
        f.write_str(method.as_str())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_get_and_head_are_theirs() {
        assert_eq!(MethodSet::of(&Method::GET), MethodSet::GET);
        assert_eq!(MethodSet::of(&Method::HEAD), MethodSet::HEAD);
    }

    #[test]
    fn s39_trace_and_connect_are_in_no_set() {
        assert!(!MethodSet::ALL.meets(MethodSet::of(&Method::TRACE)));
        assert!(!MethodSet::ALL.meets(MethodSet::of(&Method::CONNECT)));
        let purge = Method::from_bytes(b"PURGE").expect("a token");
        assert!(MethodSet::ALL.meets(MethodSet::of(&purge)));
    }
}
