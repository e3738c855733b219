//! Clinics, the hospitals they refer to, and the villages and chiefs around them.
//!
//! Districts are real, clinics and villages are named in the manner of the region; nothing here claims that a place has
//! such a clinic.

use super::names::Country;

/// A clinic with a gateway, and its catchment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facility {
    /// The scope path: country, district, facility.
    pub(super) scope: &'static str,
    /// The name over the door.
    pub(super) name: &'static str,
    /// The district town, which also has the hospital.
    pub(super) city: &'static str,
    /// The traditional authorities around.
    pub(super) chiefs: &'static [&'static str],
    pub(super) country: Country,
}

impl Facility {
    /// The villages of the catchment.
    pub(super) fn villages(&self) -> &'static [&'static str] {
        match self.country {
            Country::Malawi => VILLAGES_MALAWI,
            Country::Zambia => VILLAGES_ZAMBIA,
            Country::Mozambique => VILLAGES_MOZAMBIQUE,
        }
    }
}

const fn facility(
    country: Country,
    scope: &'static str,
    name: &'static str,
    city: &'static str,
    chiefs: &'static [&'static str],
) -> Facility {
    Facility { scope, name, city, chiefs, country }
}

/// Every clinic; paths differ little in length, so that record sizes do not depend on the clinic.
#[rustfmt::skip]
pub(super) const FACILITIES: &[Facility] = &[
    facility(Country::Malawi, "mw/zomba/chingale", "Chingale Health Centre", "Zomba", &["T/A Mlumbe", "T/A Chikowi"]),
    facility(Country::Malawi, "mw/zomba/thondwe", "Thondwe Clinic", "Zomba", &["T/A Mwambo", "T/A Chikowi"]),
    facility(Country::Malawi, "mw/machinga/nsanama", "Nsanama Health Centre", "Liwonde", &["T/A Nsanama", "T/A Kawinga"]),
    facility(Country::Malawi, "mw/mulanje/muloza", "Muloza Health Centre", "Mulanje", &["T/A Mabuka", "S/C Njema"]),
    facility(Country::Malawi, "mw/phalombe/migowi", "Migowi Health Centre", "Phalombe", &["T/A Nkhumba", "S/C Kaduya"]),
    facility(Country::Malawi, "mw/mzimba/euthini", "Euthini Rural Hospital", "Mzimba", &["T/A Mtwalo", "T/A Chindi"]),
    facility(Country::Malawi, "mw/nsanje/tengani", "Tengani Health Centre", "Nsanje", &["T/A Tengani", "T/A Malemia"]),
    facility(Country::Zambia, "zm/petauke/minga", "Minga Mission Clinic", "Petauke", &["Chief Nyamphande", "Chief Mwape"]),
    facility(Country::Zambia, "zm/katete/kagoro", "Kagoro Rural Health Post", "Katete", &["Chief Kawaza", "Chief Mbang'ombe"]),
    facility(Country::Zambia, "zm/lundazi/mwase", "Mwase Rural Health Centre", "Lundazi", &["Chief Mwase", "Chief Zumwanda"]),
    facility(Country::Zambia, "zm/chadiza/tafelansoni", "Tafelansoni Health Post", "Chadiza", &["Chief Zingalume"]),
    facility(Country::Mozambique, "mz/mandimba/mitande", "Centro de Saúde de Mitande", "Mandimba", &["Régulo Mitande"]),
    facility(Country::Mozambique, "mz/cuamba/etatara", "Centro de Saúde de Etatara", "Cuamba", &["Régulo Mucuapa"]),
    facility(Country::Mozambique, "mz/lago/maniamba", "Posto de Saúde de Maniamba", "Metangula", &["Régulo Chissindo"]),
];

#[rustfmt::skip]
const VILLAGES_MALAWI: &[&str] = &[
    "Balamanja", "Chikafa", "Chilimani", "Chimombo", "Kachere", "Kadewere", "Kalonga", "Kumbwani", "Likapa", "Lipongo",
    "Makungula", "Mbalu", "Mchenga", "Mpotola", "Mtambo", "Mtendere", "Namadidi", "Namilambe", "Ng'ombe", "Nkhonde", "Nsomba",
    "Sitolo", "Thabwani", "Ulaya",
];

#[rustfmt::skip]
const VILLAGES_ZAMBIA: &[&str] = &[
    "Chataika", "Chimbuna", "Chimtende", "Kafumbwe", "Kamlaza", "Kapoche", "Kasenga", "Mafuta", "Mng'omba", "Mtunya",
    "Mwanjawanthu", "Mzime", "Nyakambale", "Undi", "Zemba", "Zinaka",
];

#[rustfmt::skip]
const VILLAGES_MOZAMBIQUE: &[&str] = &[
    "Aldeia Nova", "Cassembe", "Chia", "Chissimbir", "Itepela", "Lussanhando", "Malulo", "Meluluca", "Messumba", "Mississi",
    "Mucanha", "Napacala", "Nungo", "São José", "Titimane",
];
