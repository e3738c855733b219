//! Where secrets come from: a file, a credential of the service manager, a person at a terminal, or an open file descriptor.
//! Never a command line or the environment, which others on the machine can read.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::wrap::Secret;
use crate::error::Error;

/// The name of the credential.
pub(crate) const CREDENTIAL: &str = "outpost.key";
/// A key file has to be at least this long, so that nobody takes a word for a key...
const FILE_BYTES_MIN: u64 = 32;
/// ...and is read to here.
const FILE_BYTES_MAX: u64 = 8 * 1024;
/// Random bytes in a new key file.
const NEW_BYTES: usize = 32;
/// Shorter passphrases are not taken for a new slot.
const PASSPHRASE_CHARS_MIN: usize = 12;
/// What is read of a file descriptor: some lines, of which each may be long.
const SAID_BYTES_MAX: usize = 4 * 1_024;
/// File systems of sticks that have no modes: FAT, exFAT, NTFS (two drivers).
const WITHOUT_MODES: [u64; 4] = [0x4d44, 0x2011_bab0, 0x5346_544e, 0x7366_746e];

/// The content of a key file.
///
/// # Errors
/// [`Error::KeyAbsent`] if it is not there, as a stick that is not in the box; [`Error::Told`] if it cannot be one.
pub(crate) fn file(path: &Path) -> Result<Secret, Error> {
    Ok(Secret::File(content(path)?))
}

/// The content of the credential.
///
/// # Errors
/// [`Error::KeyAbsent`] if the service manager gave none.
pub(crate) fn credential() -> Result<Secret, Error> {
    let told = || {
        Error::KeyAbsent(format!(
            "the service manager gave no credential {CREDENTIAL}; it needs LoadCredentialEncrypted={CREDENTIAL} in the unit"
        ))
    };
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).ok_or_else(told)?;
    Ok(Secret::Credential(content(&folder.join(CREDENTIAL))?))
}

fn content(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let absent = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Error::KeyAbsent(format!("{} is not there (is its medium in the box?)", path.display())),
        // A stick that is pulled out, or of another user.
        _ => Error::KeyAbsent(format!("{} cannot be read: {error}", path.display())),
    };
    let file = File::open(path).map_err(absent)?;
    let facts = file.metadata().map_err(absent)?;
    let is_open = facts.mode() & 0o077 != 0 && facts.uid() != 0 || facts.mode() & 0o007 != 0;
    if !facts.is_file() {
        return Err(Error::key_trouble(format!("{} is not a file", path.display())));
    }
    if is_open && !has_no_modes(&file) {
        return Err(Error::key_trouble(format!(
            "others on this machine can read {}: chmod 600 {}",
            path.display(),
            path.display()
        )));
    }
    if !(FILE_BYTES_MIN..=FILE_BYTES_MAX).contains(&facts.len()) {
        return Err(Error::key_trouble(format!(
            "{} is no key file: one has {FILE_BYTES_MIN} to {FILE_BYTES_MAX} bytes. Make one: outpost key make FILE",
            path.display()
        )));
    }
    let mut content = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX).read_to_end(&mut content).map_err(absent)?;
    Ok(content)
}

fn has_no_modes(file: &File) -> bool {
    rustix::fs::fstatfs(file)
        .is_ok_and(|system| u64::try_from(system.f_type).is_ok_and(|kind| WITHOUT_MODES.contains(&kind)))
}

/// Makes a key file that nobody else can read. One that is there stays.
///
/// # Errors
/// What the file system reports.
pub(crate) fn make_file(path: &Path) -> Result<(), Error> {
    let mut bytes = Zeroizing::new([0; NEW_BYTES]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|e| Error::Io(std::io::Error::from(e)))?;
    let mut text = Zeroizing::new(String::with_capacity(64 + 2 * NEW_BYTES));
    text.push_str("outpost key file, keep it secret ");
    bytes.iter().for_each(|byte| text.push_str(&Zeroizing::new(format!("{byte:02x}"))));
    text.push('\n');
    let source = |source| Error::File { path: path.to_owned(), source };
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(source)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(source)
}

/// Asks a person, or takes the next line of a file descriptor.
#[derive(Clone, Default)]
pub struct Prompt {
    lines: Option<Arc<Mutex<VecDeque<Zeroizing<String>>>>>,
}

impl std::fmt::Debug for Prompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prompt")
    }
}

/// It is no part of what is configured.
impl PartialEq for Prompt {
    fn eq(&self, _: &Prompt) -> bool {
        true
    }
}

impl Eq for Prompt {}

impl Prompt {
    /// Reads what is said from an open file descriptor, line by line, in place of a terminal.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is not open for reading, or can be opened by another user only.
    pub fn from_descriptor(number: u32) -> Result<Prompt, Error> {
        let source = match number {
            // As it is: a pipe of whoever called `sudo` is not opened once more. Not by the buffer of the library, which keeps
            // what went through it.
            0 => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
            // A number is no descriptor without `unsafe`.
            _ => File::open(format!("/proc/self/fd/{number}")),
        };
        let lines = source.and_then(lines_of).map_err(|error| {
            Error::Usage(format!(
                "no passphrase can be read from file descriptor {number}: {error}. sudo passes on standard input only: \
                 --passphrase-fd 0"
            ))
        })?;
        Ok(Prompt { lines: Some(Arc::new(Mutex::new(lines))) })
    }

    /// What somebody says to a question.
    ///
    /// # Errors
    /// [`Error::KeyAbsent`] if there is nobody to ask.
    pub(crate) fn ask(&self, question: &str) -> Result<Zeroizing<String>, Error> {
        if let Some(lines) = &self.lines {
            let next = lines.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            return next.ok_or_else(|| Error::KeyAbsent(format!("nothing more was said for: {question}")));
        }
        if !std::io::stdin().is_terminal() {
            return Err(Error::KeyAbsent("somebody has to say the passphrase: outpost unlock".to_owned()));
        }
        // Shows nothing of what is typed.
        Ok(rpassword::prompt_password(format!("{question}: ")).map(Zeroizing::new)?)
    }

    /// A passphrase for a new slot: said twice at a terminal, and not too short.
    pub(crate) fn ask_new(&self) -> Result<Zeroizing<String>, Error> {
        let first = self.ask("new passphrase")?;
        if first.chars().count() < PASSPHRASE_CHARS_MIN {
            let advice = "five words that have nothing to do with each other are easy to keep in mind";
            return Err(Error::refused(format!(
                "a passphrase has at least {PASSPHRASE_CHARS_MIN} characters; {advice}"
            )));
        }
        if self.lines.is_none() && *self.ask("the same again")? != *first {
            return Err(Error::refused("both times something else was typed; nothing was changed"));
        }
        Ok(first)
    }
}

fn lines_of(source: impl Read) -> std::io::Result<VecDeque<Zeroizing<String>>> {
    // With room for all of it: a text that grows leaves behind what it was.
    let mut said = Zeroizing::new(String::with_capacity(SAID_BYTES_MAX + 1));
    source.take(SAID_BYTES_MAX as u64).read_to_string(&mut said)?;
    Ok(said.lines().map(|line| Zeroizing::new(line.trim_end_matches('\r').to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_stick_that_is_not_there_is_waited_for_and_a_file_that_is_no_key_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outpost.key");
        assert!(matches!(file(&path), Err(Error::KeyAbsent(_))));
        write(&path, "short").unwrap();
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(file(&path).unwrap_err().to_string().contains("32"));
        std::fs::remove_file(&path).unwrap();
        make_file(&path).unwrap();
        assert!(matches!(file(&path), Ok(Secret::File(content)) if content.len() == 98));
        assert!(make_file(&path).is_err(), "it stays as it is");
        set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
        assert!(file(&path).unwrap_err().to_string().contains("chmod 600"));
        assert!(file(folder.path()).unwrap_err().to_string().contains("not a file"));
    }

    #[test]
    fn of_what_is_said_each_line_is_one_answer_without_its_end() {
        let said =
            |text: &str| lines_of(text.as_bytes()).unwrap().iter().map(|line| (**line).clone()).collect::<Vec<_>>();
        assert_eq!(said("moto nyumba\r\n\n mvula "), ["moto nyumba", "", " mvula "]);
        assert_eq!(said("moto\r"), ["moto"]);
        assert!(said("").is_empty());
        assert_eq!(said(&"x".repeat(2 * SAID_BYTES_MAX)), ["x".repeat(SAID_BYTES_MAX)]);
        assert!(lines_of(&[b'm', 0xff, b'\n'][..]).is_err());
    }

    #[test]
    fn a_descriptor_that_cannot_be_read_is_refused_with_the_one_that_sudo_passes_on() {
        let told = Prompt::from_descriptor(u32::MAX).unwrap_err().to_string();
        assert!(told.contains("4294967295") && told.contains("--passphrase-fd 0"), "{told}");
    }

    #[test]
    fn a_new_passphrase_is_not_a_word() {
        let said = |text: &str| Prompt { lines: Some(Arc::new(Mutex::new([Zeroizing::new(text.to_owned())].into()))) };
        assert!(said("hospital").ask_new().unwrap_err().to_string().contains("12"));
        assert_eq!(*said("moto nyumba mvula").ask_new().unwrap(), "moto nyumba mvula");
        let prompt = said("moto nyumba mvula");
        assert_eq!(*prompt.clone().ask("").unwrap(), "moto nyumba mvula");
        assert!(matches!(prompt.ask(""), Err(Error::KeyAbsent(_))), "each line is said once");
    }
}
