//! Which levels of a host answer a query.
//!
//! A host is a tree of two levels: components (`socket0`) and their subcomponents. Any level, the host included, may
//! carry a metric. [`selectors`] tells which levels a query names, one [`Selector`] a wanted series; [`combined_paths`]
//! finds the series that are combined for one of them.

use crate::model::Query;

/// The place of a series below its host: the names of component and subcomponent, empty where there is none.
pub type Path<'a> = (&'a [u8], &'a [u8]);

/// The levels that one wanted series is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Which components.
    pub component: Level,
    /// Which subcomponents of them.
    pub subcomponent: Level,
}

/// How a selector goes on at one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    /// It ends above this level: whatever is below belongs to it.
    End,
    /// It names these, each as often as it stands here; none at all matches nothing.
    Names(Vec<String>),
}

/// The wanted series of a query in the order of the answer.
///
/// Names are kind and id without anything between. An aggregate, or a query that names no component, is one series;
/// otherwise each component is one, or each pair of component and subcomponent. A subcomponent without a component is
/// ignored.
pub fn selectors(query: &Query) -> Vec<Selector> {
    let components = names(query.component.as_deref(), &query.component_ids);
    let subcomponents = match components {
        Level::End => Level::End,
        Level::Names(_) => names(query.subcomponent.as_deref(), &query.subcomponent_ids),
    };
    if query.aggregate {
        return vec![Selector { component: components, subcomponent: subcomponents }];
    }
    let pairs = components.each().into_iter().flat_map(|component| {
        let each = subcomponents.each().into_iter();
        each.map(move |subcomponent| Selector { component: component.clone(), subcomponent })
    });
    pairs.collect()
}

fn names(kind: Option<&str>, ids: &[String]) -> Level {
    kind.map_or(Level::End, |kind| Level::Names(ids.iter().map(|id| format!("{kind}{id}")).collect()))
}

impl Level {
    /// The same level, one name at a time.
    fn each(&self) -> Vec<Self> {
        match self {
            Self::End => vec![Self::End],
            Self::Names(names) => names.iter().map(|name| Self::Names(vec![name.clone()])).collect(),
        }
    }
}

/// The series of one host that are combined for a selector, as indices into `paths`, in the order of combination.
///
/// `paths` are the places that carry the metric, each once and in any order; `has_data` tells whether the series at an
/// index has data in the asked range. A level where the selector ends is taken if it has data, and hides all below it;
/// otherwise its children are visited with the same rule, in the byte order of their names. Names are visited in the
/// order of the selector. If no level has data, the highest one alone, or the first visited of equally high ones, gives
/// the answer, which is then empty. Nothing is found if the selector matches no level.
pub fn combined_paths(selector: &Selector, paths: &[Path<'_>], has_data: impl FnMut(usize) -> bool) -> Vec<usize> {
    let mut sorted: Vec<(Path<'_>, usize)> = paths.iter().copied().zip(0..).collect();
    sorted.sort_unstable();
    let mut walk = Walk { has_data, found: Vec::new(), highest: None };
    match &selector.component {
        Level::End => walk.visit(&sorted, 0),
        Level::Names(names) => {
            for name in names {
                let below = named(&sorted, name, |path| path.0);
                match &selector.subcomponent {
                    Level::End => walk.visit(below, 1),
                    Level::Names(names) => {
                        for name in names {
                            walk.visit(named(below, name, |path| path.1), 2);
                        }
                    }
                }
            }
        }
    }
    if walk.found.is_empty() { walk.highest.map(|(_, index)| index).into_iter().collect() } else { walk.found }
}

/// Those of the sorted places whose component or subcomponent, as told by `part`, is `name`. The empty name is none.
fn named<'s, 'p>(
    sorted: &'s [(Path<'p>, usize)],
    name: &str,
    part: impl Fn(&Path<'p>) -> &'p [u8],
) -> &'s [(Path<'p>, usize)] {
    let name = name.as_bytes();
    if name.is_empty() {
        return &[];
    }
    let begin = sorted.partition_point(|(path, _)| part(path) < name);
    let end = sorted.partition_point(|(path, _)| part(path) <= name);
    &sorted[begin..end]
}

/// A walk over the levels of a host, parents first.
struct Walk<F> {
    has_data: F,
    /// The levels with data that are not hidden.
    found: Vec<usize>,
    /// The highest level seen, with its depth.
    highest: Option<(usize, usize)>,
}

impl<F: FnMut(usize) -> bool> Walk<F> {
    /// Visits the level at `depth` below the host that all places of the sorted `branch` share, and what is below it.
    fn visit(&mut self, branch: &[(Path<'_>, usize)], depth: usize) {
        // A parent is a prefix of its children, so it sorts before them.
        let Some(&((component, subcomponent), index)) = branch.first() else { return };
        let own_depth = usize::from(!component.is_empty()) + usize::from(!subcomponent.is_empty());
        let mut below = branch;
        if own_depth <= depth {
            if self.highest.is_none_or(|(highest, _)| depth < highest) {
                self.highest = Some((depth, index));
            }
            if (self.has_data)(index) {
                self.found.push(index);
                return;
            }
            below = &branch[1..];
        }
        match depth {
            0 => below.chunk_by(|a, b| a.0.0 == b.0.0).for_each(|branch| self.visit(branch, 1)),
            1 => below.chunks(1).for_each(|branch| self.visit(branch, 2)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Level {
        Level::Names(names.iter().map(ToString::to_string).collect())
    }

    fn query(aggregate: bool, component: Option<(&str, &[&str])>, subcomponent: Option<(&str, &[&str])>) -> Query {
        let part = |part: Option<(&str, &[&str])>| {
            let (kind, ids) = part.unzip();
            (kind.map(str::to_owned), ids.unwrap_or_default().iter().map(ToString::to_string).collect())
        };
        let ((component, component_ids), (subcomponent, subcomponent_ids)) = (part(component), part(subcomponent));
        Query { component, component_ids, subcomponent, subcomponent_ids, aggregate, ..Query::default() }
    }

    fn selector(component: Level, subcomponent: Level) -> Selector {
        Selector { component, subcomponent }
    }

    fn host() -> Selector {
        selector(Level::End, Level::End)
    }

    /// The paths that are combined, written `component/subcomponent`; those in `empty` have no data.
    fn combined(selector: &Selector, paths: &[&str], empty: &[&str]) -> Vec<String> {
        let split = |path: &'static str| path.split_once('/').unwrap_or((path, ""));
        let paths: Vec<&'static str> = paths.iter().map(|path| &*path.to_string().leak()).collect();
        let places: Vec<Path<'_>> =
            paths.iter().map(|path| split(path)).map(|(c, s)| (c.as_bytes(), s.as_bytes())).collect();
        let found = combined_paths(selector, &places, |index| !empty.contains(&paths[index]));
        found.into_iter().map(|index| paths[index].to_owned()).collect()
    }

    #[test]
    fn a_query_without_component_is_one_series_of_the_host() {
        for aggregate in [false, true] {
            assert_eq!(selectors(&query(aggregate, None, None)), [host()]);
            assert_eq!(selectors(&query(aggregate, None, Some(("disk", &["0"])))), [host()]);
        }
    }

    #[test]
    fn an_aggregate_is_one_series_of_all_named_components() {
        let wanted = selectors(&query(true, Some(("socket", &["1", "0", "1"])), None));
        assert_eq!(wanted, [selector(names(&["socket1", "socket0", "socket1"]), Level::End)]);
        let wanted = selectors(&query(true, Some(("socket", &[])), Some(("d", &["x", "y"]))));
        assert_eq!(wanted, [selector(names(&[]), names(&["dx", "dy"]))]);
    }

    #[test]
    fn without_aggregate_each_pair_is_a_series_and_components_are_the_outer_loop() {
        let one = |component, subcomponent| selector(names(&[component]), names(&[subcomponent]));
        let wanted = selectors(&query(false, Some(("s", &["0", "1"])), Some(("d", &["x", "y"]))));
        assert_eq!(wanted, [one("s0", "dx"), one("s0", "dy"), one("s1", "dx"), one("s1", "dy")]);
        let wanted = selectors(&query(false, Some(("s", &["0", "1"])), None));
        assert_eq!(wanted, [selector(names(&["s0"]), Level::End), selector(names(&["s1"]), Level::End)]);
    }

    #[test]
    fn no_ids_are_no_series() {
        assert_eq!(selectors(&query(false, Some(("s", &[])), None)), []);
        assert_eq!(selectors(&query(false, Some(("s", &["0"])), Some(("d", &[])))), []);
    }

    #[test]
    fn a_level_with_data_hides_all_below_it() {
        assert_eq!(combined(&host(), &["s0", "", "s0/d"], &[]), [""]);
        assert_eq!(combined(&host(), &["s0/d", "s1/d", "s0"], &[]), ["s0", "s1/d"]);
    }

    #[test]
    fn a_level_without_data_in_the_range_hides_nothing() {
        assert_eq!(combined(&host(), &["", "s1", "s0", "s1/d"], &["", "s1"]), ["s0", "s1/d"]);
    }

    #[test]
    fn data_under_a_child_named_0_are_found_by_the_host() {
        assert_eq!(combined(&host(), &["0"], &[]), ["0"]);
        assert_eq!(combined(&host(), &["", "0"], &[""]), ["0"]);
        assert_eq!(combined(&host(), &["", "0"], &[]), [""]);
    }

    #[test]
    fn children_are_combined_in_byte_order() {
        assert_eq!(combined(&host(), &["s2", "s10", "s1/b", "s1/a", "a"], &[]), ["a", "s1/a", "s1/b", "s10", "s2"]);
    }

    #[test]
    fn without_any_data_the_highest_level_answers_alone() {
        assert_eq!(combined(&host(), &["s1", "", "s0"], &["s1", "", "s0"]), [""]);
        assert_eq!(combined(&host(), &["s0/d", "s1"], &["s0/d", "s1"]), ["s1"]);
        let group = selector(names(&["s1", "s0"]), Level::End);
        assert_eq!(combined(&group, &["s0", "s1"], &["s0", "s1"]), ["s1"]);
    }

    #[test]
    fn named_components_are_visited_in_their_order_and_as_often_as_named() {
        let group = selector(names(&["s1", "s7", "s0", "s1"]), Level::End);
        assert_eq!(combined(&group, &["s0", "s1", "s10", ""], &[]), ["s1", "s0", "s1"]);
    }

    #[test]
    fn named_subcomponents_are_exact_and_hidden_by_nothing() {
        let group = selector(names(&["s0", "s1"]), names(&["dy", "dx"]));
        assert_eq!(combined(&group, &["s0/dx", "s0", "s1/dy", "s1/dx", "s0/d"], &[]), ["s0/dx", "s1/dy", "s1/dx"]);
    }

    #[test]
    fn a_selector_that_matches_no_level_finds_nothing() {
        for component in [names(&[]), names(&["s7"]), names(&[""])] {
            assert!(combined(&selector(component, Level::End), &["", "s0"], &[]).is_empty());
        }
        assert!(combined(&selector(names(&["s0"]), names(&[""])), &["s0"], &[]).is_empty());
        assert!(combined(&host(), &[], &[]).is_empty());
    }
}
