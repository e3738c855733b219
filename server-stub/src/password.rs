//! Passwords: hashed slowly, off the async threads, and few at a time, so that a stranger at the login costs little memory and
//! keeps no exchange waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{CustomizedPasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::error::{HubError, StoreError};
use crate::secret::salt;

/// Memory of one hash, KiB: what OWASP asks for with two passes and one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashes that are computed at a time.
const AT_ONCE: usize = 2;
/// Callers that wait for their turn.
const WAITING_MAX: usize = 8;
/// What is computed for who has no account, or one without a password: nothing fits it, because nobody kept what it was made of.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdCEh$UVRHaE9nUnNXb0xxQ3hWbUtpYkVzWnV5VHBBZE5mSmM";

/// A place where passwords are hashed.
#[derive(Debug, Clone)]
pub(crate) struct Mill {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// Counts who waits, also if he goes away.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Mill {
    pub(crate) fn new() -> Mill {
        Mill { places: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::default() }
    }

    /// Runs `work` on a thread of its own, when it is its turn.
    async fn grind<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, HubError> {
        let _waits = match self.waiting.fetch_add(1, Ordering::AcqRel) {
            before if before < WAITING_MAX + AT_ONCE => Waits(&self.waiting),
            _ => {
                self.waiting.fetch_sub(1, Ordering::AcqRel);
                return Err(HubError::Busy);
            }
        };
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let ground = spawn_blocking(move || {
            let made = work();
            // Held by the work and not by who asked: one that goes away does not make room for one more.
            drop(place);
            made
        });
        Ok(ground.await.map_err(|_| StoreError::Closed)?)
    }

    /// A password as it is kept.
    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<String, HubError> {
        let salt = salt()?;
        self.grind(move || hash(&password, &salt)).await?
    }

    /// Whether this is the password. An empty hash is that of nobody, and takes as long.
    pub(crate) async fn verify(&self, password: Zeroizing<String>, kept: String) -> Result<bool, HubError> {
        self.grind(move || is_it(&password, &kept)).await
    }
}

/// Whether this is the password, computed where one is.
pub(crate) fn is_it(password: &str, kept: &str) -> bool {
    verify(password, if kept.is_empty() { NOBODY } else { kept })
}

fn hash(password: &str, salt: &[u8]) -> Result<String, HubError> {
    let refused = |_| HubError::Invalid("this password cannot be hashed".to_owned());
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| StoreError::Closed)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let made: PasswordHash =
        argon2.hash_password_customized(password.as_bytes(), salt, None, None, params).map_err(refused)?;
    Ok(made.to_string())
}

fn verify(password: &str, kept: &str) -> bool {
    // By the parameters that it was made with.
    let kept = PasswordHash::new(kept);
    kept.is_ok_and(|kept| Argon2::default().verify_password(password.as_bytes(), &kept).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_kept_with_the_parameters_that_are_stated() {
        let kept = hash("ndiwo za masamba", &[7; 16]).unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(verify("ndiwo za masamba", &kept) && !verify("ndiwo za masamb", &kept) && !verify("", &kept));
        assert_ne!(hash("ndiwo za masamba", &[8; 16]).unwrap(), kept, "another salt");
        assert!(!verify("x", "") && !verify("x", "not a hash"));
    }

    #[test]
    fn the_hash_of_nobody_costs_what_any_other_does_and_opens_nothing() {
        let of_somebody = hash("x", &[7; 16]).unwrap();
        let nobody = PasswordHash::new(NOBODY).unwrap();
        assert_eq!(nobody.params, PasswordHash::new(&of_somebody).unwrap().params);
        assert_eq!(nobody.hash.map(|hash| hash.len()), Some(32));
        assert!(!verify("", NOBODY) && !verify("nobody", NOBODY));
    }

    #[tokio::test]
    async fn few_wait_and_the_rest_is_asked_to_come_back() {
        let mill = Mill::new();
        let taken = mill.places.acquire_many(AT_ONCE as u32).await.unwrap();
        let mut asked: Vec<_> = (0..WAITING_MAX + AT_ONCE)
            .map(|_| {
                let mill = mill.clone();
                tokio::spawn(async move { mill.grind(|| ()).await })
            })
            .collect();
        while mill.waiting.load(Ordering::Acquire) < WAITING_MAX + AT_ONCE {
            tokio::task::yield_now().await;
        }
        assert!(matches!(mill.grind(|| ()).await, Err(HubError::Busy)));
        asked.pop().unwrap().abort();
        while mill.waiting.load(Ordering::Acquire) == WAITING_MAX + AT_ONCE {
            tokio::task::yield_now().await;
        }
        drop(taken);
        mill.grind(|| ()).await.unwrap();
        for one in asked {
            one.await.unwrap().unwrap();
        }
    }
}
