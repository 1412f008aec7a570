//! Series: each job starts only when all earlier ones have left.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

/// The series with jobs or reservations, each in the order of arrival. The first member leads its series.
#[derive(Debug)]
pub(super) struct SeriesMap<J>(HashMap<Uuid, VecDeque<J>>);

impl<J> Default for SeriesMap<J> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<J: Clone + Eq> SeriesMap<J> {
    /// Adds a member at the end; an existing member keeps its position.
    pub(super) fn join(&mut self, series: Uuid, id: &J) {
        let members = self.0.entry(series).or_default();
        if !members.contains(id) {
            members.push_back(id.clone());
        }
    }

    /// Whether it is the first member.
    pub(super) fn leads(&self, series: Uuid, id: &J) -> bool {
        self.0.get(&series).and_then(VecDeque::front) == Some(id)
    }

    /// Removes a member. Returns the new leader, if the leader has changed.
    pub(super) fn leave(&mut self, series: Uuid, id: &J) -> Option<J> {
        let members = self.0.get_mut(&series)?;
        let position = members.iter().position(|member| member == id)?;
        members.remove(position);
        if members.is_empty() {
            self.0.remove(&series);
            return None;
        }
        members.front().filter(|_| position == 0).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_leader_is_succeeded_and_empty_series_are_removed() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut map = SeriesMap::default();
        for id in [1, 2, 3, 2] {
            map.join(one, &id);
        }
        map.join(other, &9);
        assert!(map.leads(one, &1) && !map.leads(one, &2) && map.leads(other, &9));
        assert_eq!(map.leave(one, &2), None, "it did not lead");
        assert_eq!(map.leave(one, &2), None, "it has left");
        assert_eq!(map.leave(one, &1), Some(3));
        assert_eq!(map.leave(one, &3), None);
        assert_eq!(map.leave(other, &9), None);
        assert!(map.0.is_empty());
    }
}
