//! From a schedule that fails to a short one that fails in the same way.

use super::{Event, Failure, Packers, Plan};

impl Plan {
    /// Drops events, and gateways, as long as what is left fails with the same kind. Gives what it ends with too.
    pub fn shrunk(&self, failure: &Failure, packers: &mut Packers, is_strict: bool) -> (Plan, Failure) {
        let mut best = (self.clone(), failure.clone());
        best.0.events.truncate(failure.after.max(1));
        match best.0.play(packers, is_strict) {
            Err(same) if same.kind == failure.kind => best.1 = same,
            _ => best.0 = self.clone(),
        }
        let mut size = best.0.events.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            let mut has_shrunk = false;
            while from < best.0.events.len() {
                let mut plan = best.0.clone();
                plan.events.drain(from..(from + size).min(best.0.events.len()));
                match plan.play(packers, is_strict) {
                    Err(same) if same.kind == failure.kind => (best, has_shrunk) = ((plan, same), true),
                    _ => from += size,
                }
            }
            // At the smallest size until nothing more can go.
            size = if size == 1 && has_shrunk { 1 } else { size / 2 };
        }
        self.without_idle(best, failure, packers, is_strict)
    }

    /// Without the gateways that are not needed.
    fn without_idle(
        &self,
        mut best: (Plan, Failure),
        failure: &Failure,
        packers: &mut Packers,
        is_strict: bool,
    ) -> (Plan, Failure) {
        for at in (0..self.views.len()).rev() {
            if best.0.views.len() > 1 {
                let plan = best.0.without(at);
                match plan.play(packers, is_strict) {
                    Err(same) if same.kind == failure.kind => best = (plan, same),
                    _ => {}
                }
            }
        }
        best
    }

    /// Without one gateway; those after it have other numbers then.
    fn without(&self, gone: usize) -> Plan {
        let mut plan = self.clone();
        plan.views.remove(gone);
        plan.events.retain(|event| event.at() != Some(gone));
        for at in plan.events.iter_mut().filter_map(Event::at_mut).filter(|at| **at > gone) {
            *at -= 1;
        }
        plan
    }
}
