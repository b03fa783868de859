//! Reports that wait for their delivery: pure. Each is told once; when too many wait, the oldest is dropped and counted.

use std::collections::VecDeque;

use livepatch_types::Sha256Digest;
use serde::{Deserialize, Serialize};

/// How many reports wait at most.
pub(crate) const MOST_WAITING: usize = 100;
/// How many bytes they have at most, all together.
pub(crate) const MOST_WAITING_BYTES: usize = 256 << 10;
/// How many ids are remembered, so that nothing is told twice.
const MOST_TOLD: usize = 256;

/// A report: its id, and the bytes that are sent, however often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Queued {
    pub(crate) id: Sha256Digest,
    pub(crate) body: String,
}

/// What waits, and what was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Queue {
    waiting: VecDeque<Queued>,
    sent: Option<Queued>,
    dropped: u64,
    told: VecDeque<Sha256Digest>,
    /// What the state was when it was told last, and how often it changed.
    state: Option<Sha256Digest>,
    changes: u64,
}

impl Queue {
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Queued> {
        self.waiting.iter()
    }

    pub(crate) fn first(&self) -> Option<&Queued> {
        self.waiting.front()
    }

    /// The one that was delivered last.
    pub(crate) fn sent(&self) -> Option<&Queued> {
        self.sent.as_ref()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn is_told(&self, id: &Sha256Digest) -> bool {
        self.told.contains(id)
    }

    /// Whether the state was told, and nothing else since.
    pub(crate) fn is_state(&self, state: &Sha256Digest) -> bool {
        self.state.as_ref() == Some(state)
    }

    /// Notes that the state is this, as it was just told.
    pub(crate) fn set_state(&mut self, state: Sha256Digest) {
        if !self.is_state(&state) {
            self.changes += 1;
        }
        self.state = Some(state);
    }

    /// Adds a report, unless it was told before. Its body is made when it is known how many were dropped before it.
    pub(crate) fn push(&mut self, id: Sha256Digest, body: impl FnOnce(u64) -> String) -> bool {
        if self.is_told(&id) {
            return false;
        }
        if self.waiting.len() >= MOST_WAITING {
            self.drop_oldest();
        }
        let body = body(self.dropped);
        let room = MOST_WAITING_BYTES.saturating_sub(body.len());
        // The count in this body is then behind by what makes room for it; the next one's is not.
        while self.bytes() > room && !self.waiting.is_empty() {
            self.drop_oldest();
        }
        self.skip(id);
        self.waiting.push_back(Queued { id, body });
        true
    }

    /// Notes that something is not told any more.
    pub(crate) fn skip(&mut self, id: Sha256Digest) {
        if self.told.len() == MOST_TOLD {
            self.told.pop_front();
        }
        self.told.push_back(id);
    }

    /// The first one was delivered. One that was dropped meanwhile is none.
    pub(crate) fn delivered(&mut self, id: &Sha256Digest) {
        if let Some(sent) = self.waiting.pop_front_if(|first| first.id == *id) {
            self.sent = Some(sent);
        }
    }

    /// The server takes the first one never.
    pub(crate) fn refused(&mut self, id: &Sha256Digest) {
        if self.waiting.pop_front_if(|first| first.id == *id).is_some() {
            self.dropped += 1;
        }
    }

    fn drop_oldest(&mut self) {
        if self.waiting.pop_front().is_some() {
            self.dropped += 1;
        }
    }

    fn bytes(&self) -> usize {
        self.waiting.iter().map(|queued| queued.body.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use livepatch_manifest::sha256;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push {
            event: u8,
            bytes: usize,
        },
        Deliver,
        Refuse,
        /// The daemon restarts.
        Reload,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (any::<u8>(), prop_oneof![8 => 0..200usize, 1 => 0..64_000usize])
                .prop_map(|(event, bytes)| Step::Push { event, bytes }),
            2 => Just(Step::Deliver),
            1 => Just(Step::Refuse),
            1 => Just(Step::Reload),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn nothing_is_told_twice_or_lost_without_being_counted(steps in steps()) {
            let mut queue = Queue::default();
            let (mut taken, mut delivered) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Push { event, bytes } => {
                        let id = sha256(&[event]);
                        let dropped_before = queue.dropped();
                        let mut told = None;
                        let is_new = queue.push(id, |dropped| {
                            told = Some(dropped);
                            "x".repeat(bytes)
                        });
                        prop_assert_eq!(is_new, !taken.contains(&id));
                        prop_assert_eq!(told.is_some(), is_new);
                        prop_assert!(told.is_none_or(|told| told >= dropped_before && told <= queue.dropped()));
                        if is_new {
                            taken.push(id);
                        }
                    }
                    Step::Deliver | Step::Refuse => {
                        let Some(first) = queue.first().cloned() else { continue };
                        if matches!(step, Step::Deliver) {
                            // An answer that comes twice does no harm.
                            queue.delivered(&first.id);
                            queue.delivered(&first.id);
                            delivered.push(first.id);
                            prop_assert_eq!(queue.sent(), Some(&first));
                        } else {
                            queue.refused(&first.id);
                        }
                    }
                    Step::Reload => {
                        let text = serde_json::to_string(&queue).unwrap();
                        let read: Queue = serde_json::from_str(&text).unwrap();
                        prop_assert!(read == queue);
                        queue = read;
                    }
                }
                let waiting: Vec<_> = queue.waiting().map(|queued| queued.id).collect();
                prop_assert!(waiting.len() <= MOST_WAITING && queue.bytes() <= MOST_WAITING_BYTES);
                prop_assert!(taken.ends_with(&waiting), "the newest wait, in their order");
                let gone = taken.len() - waiting.len() - delivered.len();
                prop_assert_eq!(queue.dropped(), gone as u64);
            }
            prop_assert_eq!(delivered.iter().collect::<HashSet<_>>().len(), delivered.len());
        }
    }

    #[test]
    fn the_oldest_makes_room_and_the_newest_says_so() {
        let mut queue = Queue::default();
        for number in 0..=MOST_WAITING {
            queue.push(sha256(&number.to_be_bytes()), |dropped| format!("{number} {dropped}"));
        }
        let bodies: Vec<_> = queue.waiting().map(|queued| queued.body.clone()).collect();
        assert_eq!((bodies[0].as_str(), bodies[MOST_WAITING - 1].as_str()), ("1 0", "100 1"));
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn a_state_changes_when_it_is_another() {
        let mut queue = Queue::default();
        for (state, changes) in [("a", 1), ("a", 1), ("b", 2), ("a", 3)] {
            queue.set_state(sha256(state.as_bytes()));
            assert!(queue.is_state(&sha256(state.as_bytes())));
            assert_eq!(queue.changes(), changes);
        }
    }
}
