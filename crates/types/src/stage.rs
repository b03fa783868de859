use Stage::*;
use StageEvent::*;

/// Where one livepatch is on one kernel in one boot. The loader holds each change of it against [`TRANSITIONS`] before
/// it takes the step; the agent does before it hands a module over. docs/stages.md has the drawing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Not in the kernel, and nothing is under way.
    #[default]
    Absent,
    /// The bytes that a signed document names are here. Nothing else is known of them.
    Downloaded,
    /// They are the vendor's, for this kernel, and allowed today: they may go to the kernel.
    Verified,
    /// The kernel is about to get it.
    Inserting,
    /// The kernel moves its tasks to it.
    Transition,
    /// In force, and not for long enough to say that it is healthy.
    Soaking,
    /// In force, and healthy.
    Healthy,
    /// In force, and the kernel complained of it: not loaded again by itself.
    WithBug,
    /// The kernel is about to move its tasks from it, or does.
    Reverting,
    /// It was refused, by the loader or by the kernel, or was not in force in time: tried again later.
    Failed,
    /// A host went down while it soaked: tried once more when the operator still wants it.
    Waiting,
    /// A host went down with it: not loaded again by itself.
    Blocked,
}

/// What happens to a livepatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StageEvent {
    /// Its module was brought, or is in the cache, with the digest that is signed.
    Fetched,
    /// Signature, kernel, patched modules and what is allowed were looked at, and all is well.
    Passed,
    /// One of these is not well, or it does not go to the kernel for another reason.
    Refused,
    /// It is loaded next.
    Insert,
    /// The kernel has it.
    Inserted,
    /// The kernel refused it, it was cancelled, or it is gone.
    Ended,
    /// The transition to it ended.
    InForce,
    /// The same, and it was healthy in an earlier boot.
    BackInForce,
    /// It was in force for long enough.
    Soaked,
    /// Another took its place.
    Replaced,
    /// It is disabled next.
    Revert,
    /// The kernel could not let go of it; it soaks on.
    StillSoaking,
    /// The kernel could not let go of it; it is as healthy as before.
    StillHealthy,
    /// The kernel could not let go of it, of which it complained before.
    StillWithBug,
    /// It is out of force.
    Removed,
    /// The same, and the kernel complained of it before.
    RemovedWithBug,
    /// The kernel's log has a warning, bug or oops in its code.
    Complained,
    /// The host was shut down in good order.
    ShutDown,
    /// The host went down, and nothing says why.
    WentDown,
    /// The host went down, and a record of a panic is there, or it was the second time.
    Panicked,
    /// Root forgets what happened.
    Cleared,
}

/// All that may happen: from a stage, by an event, to a stage.
pub const TRANSITIONS: &[(Stage, StageEvent, Stage)] = &[
    (Absent, Fetched, Downloaded),
    (Absent, Complained, Blocked),
    (Downloaded, Fetched, Downloaded),
    (Downloaded, Passed, Verified),
    (Downloaded, Refused, Failed),
    (Downloaded, Replaced, Absent),
    (Downloaded, ShutDown, Absent),
    (Downloaded, WentDown, Absent),
    (Downloaded, Panicked, Absent),
    (Verified, Fetched, Downloaded),
    (Verified, Insert, Inserting),
    (Verified, Refused, Failed),
    (Verified, Replaced, Absent),
    (Verified, ShutDown, Absent),
    (Verified, WentDown, Absent),
    (Verified, Panicked, Absent),
    (Inserting, Inserted, Transition),
    (Inserting, Ended, Failed),
    (Inserting, ShutDown, Absent),
    (Inserting, WentDown, Blocked),
    (Inserting, Panicked, Blocked),
    (Transition, InForce, Soaking),
    (Transition, BackInForce, Healthy),
    (Transition, Ended, Failed),
    (Transition, ShutDown, Absent),
    (Transition, WentDown, Blocked),
    (Transition, Panicked, Blocked),
    (Soaking, Soaked, Healthy),
    (Soaking, Complained, WithBug),
    (Soaking, Replaced, Absent),
    (Soaking, Ended, Absent),
    (Soaking, Revert, Reverting),
    (Soaking, ShutDown, Absent),
    (Soaking, WentDown, Waiting),
    (Soaking, Panicked, Blocked),
    (Healthy, Complained, WithBug),
    (Healthy, Replaced, Absent),
    (Healthy, Ended, Absent),
    (Healthy, Revert, Reverting),
    (Healthy, ShutDown, Absent),
    (Healthy, WentDown, Absent),
    (Healthy, Panicked, Absent),
    (WithBug, Replaced, Blocked),
    (WithBug, Ended, Blocked),
    (WithBug, Revert, Reverting),
    (WithBug, ShutDown, Blocked),
    (WithBug, WentDown, Blocked),
    (WithBug, Panicked, Blocked),
    (WithBug, Cleared, Healthy),
    (Reverting, Removed, Absent),
    (Reverting, RemovedWithBug, Blocked),
    (Reverting, StillWithBug, WithBug),
    (Reverting, StillSoaking, Soaking),
    (Reverting, StillHealthy, Healthy),
    (Reverting, ShutDown, Absent),
    (Reverting, WentDown, Blocked),
    (Reverting, Panicked, Blocked),
    (Failed, Fetched, Downloaded),
    (Failed, Complained, Blocked),
    (Failed, Replaced, Absent),
    (Failed, ShutDown, Absent),
    (Failed, WentDown, Absent),
    (Failed, Panicked, Absent),
    (Failed, Cleared, Absent),
    (Waiting, Fetched, Downloaded),
    (Waiting, Complained, Blocked),
    (Waiting, Cleared, Absent),
    (Blocked, Cleared, Absent),
];

/// Something that cannot happen where a livepatch is: a fault of the program that it would have happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a livepatch that is {} cannot be {}", .stage.words(), .event.words())]
pub struct ForbiddenTransition {
    /// Where it is.
    pub stage: Stage,
    /// What would have happened.
    pub event: StageEvent,
}

impl Stage {
    /// Where an event leads.
    pub fn next(self, event: StageEvent) -> Result<Self, ForbiddenTransition> {
        let row = TRANSITIONS.iter().find(|(from, by, _)| *from == self && *by == event);
        row.map(|(_, _, to)| *to).ok_or(ForbiddenTransition { stage: self, event })
    }

    /// Whether the kernel runs it.
    pub fn is_in_force(self) -> bool {
        matches!(self, Soaking | Healthy | WithBug)
    }

    /// The stage for people, in lower case: `with bug`.
    pub fn words(self) -> String {
        words(&format!("{self:?}"))
    }
}

impl StageEvent {
    /// The event for people, in lower case: `back in force`.
    pub fn words(self) -> String {
        words(&format!("{self:?}"))
    }
}

/// The table as a drawing (a state diagram of Mermaid): an arrow for each pair of stages, with all that leads along it.
pub fn stage_drawing() -> String {
    let mut arrows: Vec<(Stage, Stage, String)> = Vec::new();
    for (from, by, to) in TRANSITIONS {
        match arrows.iter_mut().find(|(f, t, _)| f == from && t == to) {
            Some((_, _, events)) => *events = format!("{events}, {}", by.words()),
            None => arrows.push((*from, *to, by.words())),
        }
    }
    let arrows = arrows.iter().map(|(from, to, events)| format!("    {from:?} --> {to:?}: {events}\n"));
    format!("stateDiagram-v2\n    [*] --> Absent\n{}", arrows.collect::<String>())
}

/// `BackInForce` as `back in force`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_event_leads_to_one_stage() {
        let mut seen = BTreeSet::new();
        for (from, event, to) in TRANSITIONS {
            assert!(seen.insert(format!("{from:?} {event:?}")), "{from:?} {event:?} twice");
            assert_eq!(from.next(*event), Ok(*to));
        }
        let refused = Blocked.next(Insert).unwrap_err();
        assert_eq!(refused.to_string(), "a livepatch that is blocked cannot be insert");
        assert_eq!(WithBug.next(BackInForce).unwrap_err().event, BackInForce);
    }

    /// Nothing but root leads out of `Blocked`, and nothing goes to the kernel that was not verified in this life of the
    /// loader.
    #[test]
    fn the_ways_that_matter_are_the_only_ones() {
        let out: Vec<_> = TRANSITIONS.iter().filter(|(from, ..)| *from == Blocked).collect();
        assert_eq!(out, [&(Blocked, Cleared, Absent)]);
        for (into, from) in [(Inserting, (Verified, Insert)), (Verified, (Downloaded, Passed))] {
            let ways: Vec<_> = TRANSITIONS.iter().filter(|(_, _, to)| *to == into).collect();
            assert_eq!(ways, [&(from.0, from.1, into)]);
        }
        for (from, event, _) in TRANSITIONS.iter().filter(|(_, _, to)| *to == Transition) {
            assert_eq!((from, event), (&Inserting, &Inserted));
        }
    }

    /// The page has the drawing of this table, whole, and says of each stage what it means.
    #[test]
    fn the_drawing_is_true() {
        let page = include_str!("../../../docs/stages.md");
        let (_, rest) = page.split_once("```mermaid\n").unwrap();
        let (drawn, _) = rest.split_once("```").unwrap();
        assert_eq!(drawn, stage_drawing());
        for (stage, ..) in TRANSITIONS {
            let word = serde_json::to_value(stage).unwrap();
            let row = format!("| `{}` |", word.as_str().unwrap());
            assert!(page.contains(&row), "{row}");
        }
    }
}
