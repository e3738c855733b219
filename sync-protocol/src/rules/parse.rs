//! stub
#[derive(Debug)]
pub struct RulesError;
