//! Finds routes that overlap without either being more specific, without comparing each with each.
//!
//! Whether two patterns cross follows from their arrangements (where literals and parameters stand) and from the
//! literals at the places where both have one. So patterns are sorted into classes by arrangement and methods, and
//! only classes that can cross are joined, by a hash of those literals. Every pair that a join yields crosses: it is
//! reported, or a route for exactly the overlap settles it, and each route can settle one pair per pair of classes.
//! The work is therefore linear in the routes for a given number of classes.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use super::index::Index;
use super::lanes::Lanes;
use super::methods::MethodSet;
use super::{Collision, MAX_ARRANGEMENTS, MAX_CROSSINGS, Methods, Pattern, Relation, Route, Segment};

/// The first [`MAX_CROSSINGS`] pairs of routes that cross, each with the key that would settle it.
pub(super) fn crossings(index: &Index) -> Vec<Collision> {
    let classes = match classes(index) {
        Ok(classes) => classes,
        Err(too_varied) => return vec![too_varied],
    };
    let mut found = Vec::new();
    for (position, one) in classes.iter().enumerate() {
        for other in &classes[..position] {
            if one.methods.meets(other.methods) && one.crosses(other) {
                join(index, one, other, &mut found);
            }
            if found.len() >= MAX_CROSSINGS {
                found.truncate(MAX_CROSSINGS);
                return found;
            }
        }
    }
    found
}

/// Patterns alike in where literals and parameters stand, and in the methods that are sold on their paths.
struct Class<'a> {
    arrangement: Pattern,
    methods: MethodSet,
    members: Vec<&'a Lanes>,
}

fn classes(index: &Index) -> Result<Vec<Class<'_>>, Collision> {
    let stand_in = StandIn::default();
    let mut arrangements: HashMap<Pattern, usize> = HashMap::new();
    let mut places: HashMap<(usize, MethodSet), usize> = HashMap::new();
    let mut classes: Vec<Class> = Vec::new();
    for lanes in index.lanes() {
        let arrangement = stand_in.arrangement(&lanes.pattern);
        let number = arrangements.len();
        let number = *arrangements.entry(arrangement.clone()).or_insert(number);
        if number >= MAX_ARRANGEMENTS
            && let Some(route) = lanes.routes().next()
        {
            return Err(Collision::TooVaried { route: route.clone() });
        }
        let methods = lanes.methods();
        let place = *places.entry((number, methods)).or_insert(classes.len());
        if place == classes.len() {
            classes.push(Class { arrangement, methods, members: Vec::new() });
        }
        classes[place].members.push(lanes);
    }
    Ok(classes)
}

/// One text for every literal and one name for every parameter. The nothing behind a trailing slash stays as it is,
/// for no parameter matches it.
struct StandIn {
    literal: Segment,
    parameter: Segment,
}

impl Default for StandIn {
    fn default() -> Self {
        Self { literal: Segment::Literal("a".into()), parameter: Segment::Parameter("p".into()) }
    }
}

impl StandIn {
    fn arrangement(&self, pattern: &Pattern) -> Pattern {
        let kind = |segment: &Segment| match segment {
            Segment::Literal(text) if text.is_empty() => segment.clone(),
            Segment::Literal(_) => self.literal.clone(),
            Segment::Parameter(_) => self.parameter.clone(),
        };
        Pattern { segments: pattern.segments.iter().map(kind).collect(), subtree: pattern.subtree }
    }
}

impl Class<'_> {
    /// Whether members of the two cross when their common literals agree.
    fn crosses(&self, other: &Self) -> bool {
        let (one, other) = (&self.arrangement, &other.arrangement);
        !one.within(other) && !other.within(one) && one.common(other).is_some()
    }

    /// The places where both have a literal.
    fn common_literals(&self, other: &Self) -> Vec<usize> {
        let pairs = self.arrangement.segments.iter().zip(&other.arrangement.segments).enumerate();
        let both = |(one, other): (&Segment, &Segment)| {
            matches!(one, Segment::Literal(_)) && matches!(other, Segment::Literal(_))
        };
        pairs.filter(|(_, pair)| both(*pair)).map(|(place, _)| place).collect()
    }
}

/// Reports the unsettled crossings between two classes, until there are enough.
fn join(index: &Index, one: &Class, other: &Class, found: &mut Vec<Collision>) {
    let (few, many) = if one.members.len() <= other.members.len() { (one, other) } else { (other, one) };
    let places = one.common_literals(other);
    let random = RandomState::new();
    let digest = |pattern: &Pattern| {
        let mut hasher = random.build_hasher();
        places.iter().for_each(|place| pattern.segments[*place].hash(&mut hasher));
        hasher.finish()
    };
    let mut by_digest: HashMap<u64, Vec<&Lanes>> = HashMap::with_capacity(few.members.len());
    for lanes in &few.members {
        by_digest.entry(digest(&lanes.pattern)).or_default().push(lanes);
    }
    for lanes in &many.members {
        for met in by_digest.get(&digest(&lanes.pattern)).into_iter().flatten() {
            report(index, lanes, met, found);
            if found.len() >= MAX_CROSSINGS {
                return;
            }
        }
    }
}

fn report(index: &Index, one: &Lanes, other: &Lanes, found: &mut Vec<Collision>) {
    let Relation::Crossing { witness } = one.pattern.relation(&other.pattern) else {
        return; // Two different sets of literals with one digest.
    };
    let settled = index.at(&witness).map_or(MethodSet::NONE, Lanes::methods);
    let open = one.methods().both(other.methods()).without(settled);
    let mut pairs: Vec<(&Arc<Route>, &Arc<Route>, MethodSet)> = Vec::new();
    for method in open.each() {
        let (Some(one), Some(other)) = (one.lane(method), other.lane(method)) else { continue };
        let same = |pair: &&mut (&Arc<Route>, &Arc<Route>, MethodSet)| {
            Arc::ptr_eq(pair.0, one.route) && Arc::ptr_eq(pair.1, other.route)
        };
        match pairs.iter_mut().find(same) {
            Some(pair) => pair.2 = pair.2.union(method),
            None => pairs.push((one.route, other.route, method)),
        }
    }
    found.extend(pairs.into_iter().map(|(one, other, methods)| {
        let stands = |route: &Arc<Route>| (route.place.file.clone(), route.place.line, route.place.column);
        let (first, second) = if stands(one) <= stands(other) { (one, other) } else { (other, one) };
        let witness = match methods.to_methods() {
            Methods::Any => witness.to_string(),
            named => format!("{named} {witness}"),
        };
        Collision::Crossing { first: first.clone(), second: second.clone(), witness }
    }));
}
