//! What a technician should do about the box, in words for somebody who has it in front of them.

use sync_protocol::message::{Reserve, WORN_PERCENT};

use super::Board;

/// From here on the processor is slowed down soon.
const HOT_CELSIUS: i32 = 80;
/// Less than this, and programs are ended.
const MEMORY_FREE_BYTES_MIN: u64 = 24 << 20;

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advice {
    /// What it is about.
    pub(crate) what: &'static str,
    /// What is the matter.
    pub(crate) told: String,
    /// What to do.
    pub(crate) to_do: &'static str,
}

/// All that is not as it should be; the worst first.
pub(crate) fn advice(board: &Board) -> Vec<Advice> {
    let mut found = Vec::new();
    let mut say = |what, told: String, to_do| found.push(Advice { what, told, to_do });
    if board.card_read_only {
        let told =
            "it takes no writes any more: nothing new is taken, and what is on it is served and sent from memory";
        say(
            "card",
            told.to_owned(),
            "Replace the card now: docs/swap-a-card.md says how. All on it can still be read.",
        );
    }
    let power = board.power.unwrap_or_default();
    if power.weak {
        let told = if power.weak_now { "it is too weak now" } else { "it has been too weak" };
        say(
            "power supply",
            told.to_owned(),
            "Use the board's official power supply and its own cable: a weak one damages cards.",
        );
    }
    for card in &board.cards {
        let name = card.name.as_deref().unwrap_or(&card.device);
        let worn = card.worn_percent.unwrap_or(0);
        if matches!(card.eol, Reserve::Low | Reserve::Ending) || worn >= WORN_PERCENT {
            let life = card.worn_percent.map_or(String::new(), |worn| match worn {
                0..=100 => format!(", {worn} % of its life is used"),
                _ => ", its life is over".to_owned(),
            });
            let reserve = card.reserve.map_or(String::new(), |reserve| format!(", its reserve: {reserve}"));
            let to_do = match card.eol == Reserve::Ending || worn > 100 {
                true => "Replace the card now: docs/swap-a-card.md says how.",
                false => "Replace the card at the next visit: docs/swap-a-card.md says how.",
            };
            say("card", format!("{name} is worn{life}{reserve}"), to_do);
        }
    }
    if board.logs_twice {
        let told = "every line is written to the card twice, by the journal and by rsyslog, which wears it";
        say(
            "logs",
            told.to_owned(),
            "Keep them in memory: docs/install.md says how. Or take rsyslog away: sudo apt-get purge --autoremove rsyslog",
        );
    }
    let celsius = board.temperature_celsius.unwrap_or(0);
    if celsius >= HOT_CELSIUS {
        say("heat", format!("{celsius} degrees"), "Put the box into the shade and give it air, or a cooler.");
    }
    if power.slowed && !power.weak && celsius < HOT_CELSIUS {
        let told = "the processor has been slowed down since the start";
        say(
            "heat",
            told.to_owned(),
            "The box gets too hot or too little power: look at its place, then at its power supply.",
        );
    }
    if board.memory_free_bytes.is_some_and(|free| free < MEMORY_FREE_BYTES_MIN) {
        let free = crate::status::bytes(board.memory_free_bytes.unwrap_or(0));
        say("memory", format!("only {free} free"), "End other programs on the box, or start it again.");
    }
    if board.clock.has_battery == Some(false) {
        let told = "the clock of the board has no battery, so it forgets the time without power";
        say(
            "clock",
            told.to_owned(),
            "Put in the battery for its clock. Without it times are repaired at the next contact with the hub.",
        );
    }
    found
}
