//! The sentences of visit notes, with `{slots}` that [`super::notes`] fills. All text is made up for this project.
//!
//! Mostly short and listing, as hurried people write. The sentences are mostly slots, and the slots mostly single words:
//! notes that repeat long phrases would compress better than real ones and flatter every bench.

/// How a note begins.
#[rustfmt::skip]
pub(super) const OPENINGS: &[&str] = &[
    "{Teller} reports {complaint} {span}, {course}.",
    "Came {travel} from {village}, {complaint} {span}.",
    "{Teller} complains of {complaint}, {kind} {symptom}, {symptom}, {course}.",
    "Known here, back with {complaint} {span}.",
    "Brought by {relative} {given}: {complaint}, {course}.",
];

/// What may follow, in any order.
#[rustfmt::skip]
pub(super) const FINDINGS: &[&str] = &[
    "{Symptom}, {kind} {symptom} and {kind} {symptom} {span}, {course}.",
    "No {symptom}, {symptom}, {symptom} or {symptom}.",
    "{Kind} {symptom} {time}, {relative} {given} too.",
    "Denies {symptom}, mentions {kind} {symptom} {ago}.",
    "{State}, {state}, {degree} {state}.",
    "{Part} {degree} {finding}, {part} {finding}.",
    "{Part} {finding}, {part} {finding}, {part} {finding}.",
    "{Part}: {finding}, {degree} {finding}.",
    "{Colour} patches on {part} and {part}, {degree} {finding}.",
    "Temp {fever} °C {time} at home, {home} given, {effect}.",
    "RR {rate}, {chest}, {degree} {finding} {part}.",
    "Abdomen {finding}, {part} {finding}, stool {stool}.",
    "RDT {result}, read by {given} after {rate} min.",
    "Hb {hb}, slide {result}, urine {urine} {result}.",
    "MUAC {muac}, {oedema}, appetite {quality}.",
    "Had {home}, {home} from {shop}, {effect}.",
    "{Relative} {given} had {kind} {symptom} {ago}, treated at {place}.",
    "Eats {food} and {food} {meals}, {water} water.",
    "Net {often}, {water} {broken}, {number} at home with {symptom}.",
    "Seen {ago} at {place}: {kind} {symptom}, {home}.",
    "Missed {weekday} because of {obstacle}, then {obstacle}.",
    "Card {card}, history from {relative} {family}.",
    "Passport {card} shows {number} visits, {symptom} in {month}.",
    "{Relative} {given} is {away}, {relative} {given} helps with {chore}.",
    "{Teller} says: \"{symptom} {time}, {effect}\".",
    "Wound {size} cm, {part}, {colour}, {wound}, {cleaned}.",
    "Pain {part} and {part}, {course}, worse {moving}, {home} {effect}.",
    "Weight {trend}, {trend} in {month}, sleep {quality}, mood {quality}.",
    "{Time} {kind} {symptom}, {time} {symptom}, {quality} otherwise.",
    "First dose {rate} min ago, {effect}, pulse {pulse}.",
    "Lives in {village} near {family}, {chore} every {weekday}.",
    "Moved from {village} in {month}, works at {chore}, {number} children.",
];

/// How a note ends.
#[rustfmt::skip]
pub(super) const PLANS: &[&str] = &[
    "To {advice} and {advice}; back {when} or if {danger}.",
    "{Relative} {given} to {advice}, review {when}.",
    "Refer to {hospital} if {danger} or {danger}, by {vehicle}.",
    "Review at {clinic} {when}, {advice} meanwhile.",
    "Told to {advice}; {supply} {when}.",
    "HSA {given} visits {village} {when}, checks {symptom}, {symptom}.",
];

/// The words for a slot; an empty list where the slot is none of these.
#[rustfmt::skip]
pub(super) fn words(slot: &str) -> &'static [&'static str] {
    match slot {
        "teller child" => &["Mother", "Grandmother", "Guardian", "Aunt", "Father"],
        "relative" => &["mother", "sister", "neighbour", "grandmother", "uncle", "brother", "volunteer", "cousin", "teacher", "aunt"],
        "course" => &["worsening", "on and off", "better now", "unchanged", "spreading", "sudden", "slow onset", "settling", "after rain"],
        "travel" => &["walking", "by bicycle", "by ox cart", "carried", "by minibus", "by canoe", "on a motorbike"],
        "time" => &["at night", "at dawn", "in the morning", "after meals", "in the evening", "on waking", "at noon", "all day", "when resting"],
        "symptom" => &[
            "fever", "cough", "vomiting", "diarrhoea", "headache", "rash", "itching", "thirst", "sweats", "dizziness", "earache", "swelling",
            "fits", "wheeze", "weakness", "bleeding", "blurred vision", "chest tightness", "constipation", "shivering", "hiccups", "nausea",
            "cramps", "numbness", "sneezing", "hoarseness", "palpitations", "heartburn", "bloating", "tremor", "fainting", "drooling",
            "stiffness", "sore throat", "toothache", "nosebleed", "limping", "tiredness", "burning urine", "backache",
        ],
        "kind" => &["mild", "severe", "new", "slight", "repeated", "brief", "constant", "odd", "marked", "some", "frequent", "rare", "sharp"],
        "degree" => &["slightly", "very", "mildly", "clearly", "newly", "still", "rather", "markedly", "barely", "unusually"],
        "state" => &["alert", "tired", "irritable", "playful", "dehydrated", "pale", "anxious", "thin", "drowsy", "calm", "weak", "sweating", "cheerful"],
        "part" => &[
            "throat", "left ear", "right ear", "skin", "tongue", "liver", "left knee", "scalp", "navel", "right eye", "spleen", "neck",
            "left foot", "right hand", "lower back", "shin", "shoulder", "heel", "gums", "chest wall", "elbow", "groin", "lips", "ankle",
        ],
        "finding" => &[
            "clean", "inflamed", "tender", "swollen", "dry", "warm", "scaly", "soft", "hard", "bruised", "moist", "normal", "sore", "healing",
            "cold", "blistered", "firm", "enlarged", "itchy", "cracked",
        ],
        "colour" => &["red", "pale", "dark", "yellow", "white", "grey", "pink", "brown"],
        "chest" => &["crackles left", "crackles right", "wheezes", "clear", "shallow", "grunting", "no indrawing", "deep"],
        "stool" => &["watery", "bloody", "normal", "green", "hard", "with mucus", "black", "pale"],
        "result" => &["negative", "positive", "faint", "invalid", "not done", "repeated", "trace"],
        "urine" => &["protein", "blood", "sugar", "leucocytes", "nitrite", "ketones"],
        "oedema" => &["no oedema", "pitting oedema", "slight oedema", "oedema gone"],
        "home" => &["paracetamol", "herbs", "sponging", "half an LA", "sugar water", "cough syrup", "aspirin", "ginger tea", "ORS", "honey", "amoxicillin"],
        "effect" => &["no effect", "some relief", "much better", "vomited", "no change", "slept", "itched", "kept down", "refused"],
        "shop" => &["the market", "a shop", "a healer", "a neighbour", "the HSA", "a pharmacy", "the school"],
        "food" => &["porridge", "nsima", "cassava", "mangoes", "dried fish", "sweet potato", "groundnuts", "beans", "eggs", "rice", "pumpkin", "milk"],
        "meals" => &["once a day", "twice a day", "often", "little", "when pressed", "with appetite"],
        "water" => &["borehole", "river", "well", "lake", "tap", "spring", "rain"],
        "broken" => &["broken", "dry", "muddy", "shared with cattle", "closed", "far", "repaired"],
        "often" => &["every night", "most nights", "never", "in the rains", "torn", "lost", "new"],
        "obstacle" => &["flood", "harvest", "funeral", "rains", "planting", "distance", "illness", "no money", "wedding", "exams", "visitors"],
        "away" => &["in town", "on an estate", "abroad", "at the lake", "in the mines", "at school", "ill too"],
        "chore" => &["maize", "tobacco", "fishing", "the school", "the mill", "cattle", "firewood", "bricks", "the market", "sewing", "charcoal", "goats"],
        "wound" => &["clean", "pus", "bleeding stopped", "soil inside", "healing", "crust", "gaping", "deep"],
        "cleaned" => &["dressed", "iodine", "stitches", "left open", "rinsed", "drained", "bandaged"],
        "moving" => &["walking", "bending", "lying", "hoeing", "climbing", "coughing", "lifting", "sitting"],
        "trend" => &["up", "down", "same", "up a little", "down a little", "unknown"],
        "quality" => &["good", "poor", "fair", "returning", "restless", "normal", "variable", "low"],
        "card" => &["lost", "wet", "torn", "new", "at home", "borrowed", "copied"],
        "place" => &["outreach", "district hospital", "mission", "school", "village clinic", "private clinic", "maternity", "here"],
        "advice" => &[
            "finish tablets", "drink plenty", "boil water", "sleep under the net", "keep the wound dry", "eat groundnuts", "wash hands",
            "rest", "avoid salt", "bring the partner", "take with food", "keep the card", "sponge", "stop smoking", "avoid dust", "walk daily",
        ],
        "danger" => &["fits", "drowsy", "not drinking", "hard breathing", "fever over 39", "bleeding", "vomiting all", "confused", "worse pain"],
        "vehicle" => &["ambulance", "bicycle", "minibus", "outreach car", "motorbike", "boat"],
        "supply" => &["iron", "new net", "condoms", "nutrition pack", "refill", "eye ointment", "gauze", "glasses", "spacer"],
        "weekday" => &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
        "month" => &["January", "February", "June", "July", "August", "September", "October", "November", "December"],
        _ => &[],
    }
}
