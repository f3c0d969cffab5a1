//! Cuts a query for many series into queries for some of them, in the same order.
//!
//! A short query text can stand for hundreds of millions of series: each component with each subcomponent. Evaluated in
//! parts, what is held at one time is bounded, and a client that left or a deadline that passed is noticed in between.

use kymo_engine::model::Query;

/// Series of a part at most.
const SERIES: usize = 1024;

/// Points of a part that should not be passed: 16 MiB of values.
const POINTS: u64 = 2 << 20;

/// What is left of a query.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    query: &'a Query,
    components: usize,
    subcomponents: usize,
    component: usize,
    subcomponent: usize,
    /// Points of a series, as far as they are known.
    points: u64,
    is_measured: bool,
}

impl<'a> Parts<'a> {
    /// All of `query`, whose range is `seconds` long.
    pub(super) fn new(query: &'a Query, seconds: u64) -> Self {
        let is_one = query.aggregate || query.component.is_none();
        let components = if is_one { 1 } else { query.component_ids.len() };
        let subcomponents = if is_one || query.subcomponent.is_none() { 1 } else { query.subcomponent_ids.len() };
        let components = if subcomponents == 0 { 0 } else { components };
        // No metric has more than one point a second.
        Self { query, components, subcomponents, component: 0, subcomponent: 0, points: seconds, is_measured: false }
    }

    /// A series of this many points was found.
    pub(super) fn measure(&mut self, points: usize) {
        let points = points as u64;
        self.points = if self.is_measured { self.points.max(points) } else { points };
        self.is_measured = true;
    }

    /// The next part; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Query> {
        if self.component >= self.components {
            return None;
        }
        let most = usize::try_from(POINTS / self.points.max(1)).unwrap_or(SERIES).clamp(1, SERIES);
        let has_begun = self.component > 0 || self.subcomponent > 0;
        if !has_begun && self.components.saturating_mul(self.subcomponents) <= most {
            self.component = self.components;
            return Some(self.query.clone());
        }
        let (mut components, mut subcomponents) = (self.component..self.component + 1, 0..self.subcomponents);
        if self.subcomponent == 0 && most >= self.subcomponents {
            components.end = self.components.min(self.component + most / self.subcomponents);
            self.component = components.end;
        } else {
            subcomponents = self.subcomponent..self.subcomponents.min(self.subcomponent + most);
            self.subcomponent = subcomponents.end;
            if self.subcomponent == self.subcomponents {
                (self.component, self.subcomponent) = (self.component + 1, 0);
            }
        }
        let ids = |ids: &[String], range: std::ops::Range<usize>| ids.get(range).unwrap_or_default().to_vec();
        let Query { metric, host, component, subcomponent, .. } = self.query;
        Some(Query {
            metric: metric.clone(),
            host: host.clone(),
            component: component.clone(),
            component_ids: ids(&self.query.component_ids, components),
            subcomponent: subcomponent.clone(),
            subcomponent_ids: ids(&self.query.subcomponent_ids, subcomponents),
            ..*self.query
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(components: usize, subcomponents: Option<usize>) -> Query {
        let ids = |count: usize| (0..count).map(|id| id.to_string()).collect();
        Query {
            component: Some("core".to_owned()),
            component_ids: ids(components),
            subcomponent: subcomponents.map(|_| "x".to_owned()),
            subcomponent_ids: ids(subcomponents.unwrap_or(0)),
            ..Query::default()
        }
    }

    fn pairs(query: &Query) -> Vec<(String, String)> {
        let subcomponents =
            if query.subcomponent.is_some() { query.subcomponent_ids.clone() } else { vec![String::new()] };
        let pair = |id: &String| subcomponents.iter().map(|sub| (id.clone(), sub.clone())).collect::<Vec<_>>();
        query.component_ids.iter().flat_map(pair).collect()
    }

    #[test]
    fn one_series_is_one_part() {
        let host = Query::default();
        let mut parts = Parts::new(&host, u64::MAX);
        assert_eq!(parts.next(), Some(host.clone()));
        assert_eq!(parts.next(), None);
        let sum = Query { aggregate: true, ..query(1000, Some(1000)) };
        let mut parts = Parts::new(&sum, u64::MAX);
        assert_eq!(parts.next(), Some(sum.clone()));
        assert_eq!(parts.next(), None);
    }

    proptest! {
        #[test]
        fn parts_are_the_query_in_its_order(
            components in 0_usize..40,
            subcomponents in proptest::option::of(0_usize..40),
            seconds: u32,
            measured in proptest::collection::vec(0_usize..3_000_000, 0..5),
        ) {
            let query = query(components, subcomponents);
            let mut parts = Parts::new(&query, seconds.into());
            let (mut found, mut measured) = (Vec::new(), measured.into_iter());
            while let Some(part) = parts.next() {
                let pairs = pairs(&part);
                prop_assert!(!pairs.is_empty() && pairs.len() <= SERIES);
                found.extend(pairs);
                if let Some(points) = measured.next() {
                    parts.measure(points);
                }
            }
            prop_assert_eq!(found, pairs(&query));
        }
    }
}
