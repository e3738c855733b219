//! Common given and family names of Malawi, eastern Zambia and northern Mozambique. Any person they make up is fictional.

use super::random::Random;

/// Which list of names, phone numbers and identity cards applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Country {
    #[default]
    Malawi,
    Zambia,
    Mozambique,
}

impl Country {
    /// A given name.
    pub(super) fn given(self, female: bool, random: &mut Random) -> &'static str {
        let list = match (self, female) {
            (Self::Mozambique, true) => GIVEN_FEMALE_PORTUGUESE,
            (Self::Mozambique, false) => GIVEN_MALE_PORTUGUESE,
            (_, true) => GIVEN_FEMALE,
            (_, false) => GIVEN_MALE,
        };
        random.pick(list)
    }

    /// A family name.
    pub(super) fn family(self, random: &mut Random) -> &'static str {
        random.pick(match self {
            Self::Malawi => FAMILY_MALAWI,
            Self::Zambia => FAMILY_ZAMBIA,
            Self::Mozambique => FAMILY_MOZAMBIQUE,
        })
    }

    /// A mobile number, written in one of the ways in which people write theirs.
    pub(super) fn phone(self, random: &mut Random) -> String {
        let pattern = random.pick(match self {
            Self::Malawi => &["+26599#######", "+26588#######", "099# ### ###", "0 88# ### ###"],
            Self::Zambia => &["+26097#######", "+26096#######", "097# ######", "+260 95 # ######"],
            Self::Mozambique => &["+25884#######", "+25886#######", "84 ### ####", "+258 87 ### ####"],
        });
        random.fill(pattern)
    }

    /// The number of an identity card.
    pub(super) fn national_id(self, random: &mut Random) -> String {
        random.fill(match self {
            Self::Malawi => "@@#@#@@#",
            Self::Zambia => "######/##/1",
            Self::Mozambique => "############@",
        })
    }
}

#[rustfmt::skip]
const GIVEN_FEMALE: &[&str] = &[
    "Agness", "Aisha", "Alinafe", "Beatrice", "Chifundo", "Chikondi", "Chimwemwe", "Chipo", "Chisomo", "Dorica", "Edina",
    "Enelesi", "Esnart", "Esther", "Fatima", "Febe", "Grace", "Ireen", "Jacqueline", "Joyce", "Linda", "Loveness", "Madalitso",
    "Martha", "Memory", "Mercy", "Mphatso", "Mwayi", "Natasha", "Patuma", "Rhoda", "Ruth", "Salome", "Stella", "Tamandani",
    "Tadala", "Thokozani", "Tiyamike", "Towera", "Triza", "Violet", "Yankho", "Zainab", "Zione",
];

#[rustfmt::skip]
const GIVEN_MALE: &[&str] = &[
    "Abdul", "Alick", "Austin", "Bashir", "Blessings", "Boniface", "Chikumbutso", "Dalitso", "Davie", "Elias", "Emmanuel",
    "Felix", "Frackson", "Gift", "Hastings", "Innocent", "Isaac", "Jailos", "Kelvin", "Kondwani", "Lameck", "Limbani",
    "Lovemore", "Mabvuto", "Masauko", "Moses", "Mwiza", "Ndaona", "Patrick", "Peter", "Precious", "Rashid", "Robert", "Saidi",
    "Steven", "Thoko", "Wezi", "Witness", "Wongani", "Yamikani", "Yohane", "Yusuf", "Zikomo",
];

#[rustfmt::skip]
const GIVEN_FEMALE_PORTUGUESE: &[&str] = &[
    "Amina", "Ana", "Atija", "Celeste", "Conceição", "Deolinda", "Ermelinda", "Fátima", "Filomena", "Isabel", "Joana",
    "Laurinda", "Lúcia", "Luísa", "Maria", "Muanacha", "Natália", "Rabia", "Rosária", "Safira", "Teresa", "Zainabo",
];

#[rustfmt::skip]
const GIVEN_MALE_PORTUGUESE: &[&str] = &[
    "Abílio", "Alfredo", "Amade", "António", "Armando", "Bacar", "Bernardo", "Carlitos", "Domingos", "Ernesto", "Feliciano",
    "Gervásio", "João", "Jorge", "José", "Luís", "Momade", "Orlando", "Rachide", "Tomé", "Ussene", "Zeferino",
];

#[rustfmt::skip]
const FAMILY_MALAWI: &[&str] = &[
    "Banda", "Chilemba", "Chimwaza", "Chirwa", "Chisale", "Gondwe", "Jafali", "Kachingwe", "Kamanga", "Kambalame", "Kumwenda",
    "Likoswe", "Makawa", "Maulana", "Mbewe", "Mkandawire", "Msiska", "Mvula", "Mwale", "Namacha", "Ngwira", "Nkhoma",
    "Nyirenda", "Phiri", "Saka", "Sandram", "Twaibu", "White", "Zimba",
];

#[rustfmt::skip]
const FAMILY_ZAMBIA: &[&str] = &[
    "Banda", "Chulu", "Daka", "Jere", "Lungu", "Mbao", "Miti", "Moyo", "Mumba", "Mwanza", "Ng'andu", "Ng'oma", "Njobvu",
    "Nkhata", "Nyambose", "Nyirongo", "Phiri", "Sakala", "Soko", "Tembo", "Zimba", "Zulu",
];

#[rustfmt::skip]
const FAMILY_MOZAMBIQUE: &[&str] = &[
    "Alberto", "Alide", "Amisse", "Assane", "Bento", "Bonomar", "Cassimo", "Chicote", "Daúdo", "Ernesto", "Issufo", "Jemusse",
    "Lourenço", "Manuel", "Muemede", "Paulino", "Sabonete", "Saíde", "Tavares", "Victorino",
];
