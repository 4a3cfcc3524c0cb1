//! Reopening, refusing and ordering. What a crash leaves is `tests/crash.rs`.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/sinew.redb");
    (folder, path)
}

fn put(store: &Store, table: Table, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(table, key, value).unwrap();
    store.commit(&batch).unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_file_and_its_folder_are_made_for_their_owner_alone() {
    let (_folder, path) = place();
    drop(Store::open(&path).unwrap());
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let names: Vec<_> =
        std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["sinew.redb"], "nothing else is left");
}

#[test]
fn what_was_committed_is_there_after_reopening_and_tables_do_not_mix() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    for (at, table) in Table::ALL.into_iter().enumerate() {
        put(&store, table, b"same key", &[u8::try_from(at).unwrap()]);
    }
    drop(store);
    let store = Store::open(&path).unwrap();
    for (at, table) in Table::ALL.into_iter().enumerate() {
        assert_eq!(store.all(table).unwrap(), [(b"same key".to_vec(), vec![u8::try_from(at).unwrap()])]);
    }
}

#[test]
fn the_changes_of_a_batch_apply_in_order() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    let mut batch = Batch::new();
    batch.put(Table::Journal, b"a", b"1").unwrap();
    batch.delete(Table::Journal, b"a");
    batch.put(Table::Journal, b"b", b"1").unwrap().put(Table::Journal, b"b", b"2").unwrap();
    store.commit(&batch).unwrap();
    assert_eq!(store.all(Table::Journal).unwrap(), [(b"b".to_vec(), b"2".to_vec())]);
}

#[test]
fn a_network_is_found_and_removed_by_its_prefix_and_its_neighbours_stay() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    let (below, network, above) = ([0xfe; 32], [0xff; 32], [0x01; 32]);
    for id in [below, network, above] {
        for slot in 0..3 {
            put(&store, Table::Documents, &document_key(&id, &[slot]), &[slot]);
        }
    }
    let found = store.prefix(Table::Documents, &network).unwrap();
    assert_eq!(found.iter().map(|(_, value)| value[0]).collect::<Vec<_>>(), [0, 1, 2]);
    let mut batch = Batch::new();
    batch.delete_prefix(Table::Documents, &network);
    store.commit(&batch).unwrap();
    assert_eq!(store.prefix(Table::Documents, &network).unwrap(), []);
    assert_eq!(store.all(Table::Documents).unwrap().len(), 6);
}

#[test]
fn a_second_process_is_told_that_the_file_is_in_use() {
    let (_folder, path) = place();
    let first = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Busy { .. })));
    drop(first);
    assert!(Store::open(&path).is_ok());
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let cases: [(&str, &[u8]); 3] = [("empty", b""), ("text", b"hello, world\n"), ("short", b"redb")];
    for (name, content) in cases {
        let (_folder, path) = place();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(
            matches!(error, StoreError::Foreign { .. } | StoreError::Damaged { .. }),
            "{name}: {error:?}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), content, "{name}");
    }
}

#[test]
fn a_link_a_folder_and_a_pipe_are_refused_without_waiting() {
    type Make = fn(&Path);
    let make: [(&str, Make); 3] = [
        ("a symbolic link", |path| std::os::unix::fs::symlink("/dev/null", path).unwrap()),
        ("a folder", |path| std::fs::create_dir(path).unwrap()),
        ("not a regular file", |path| {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        }),
    ];
    for (expected, make) in make {
        let (_folder, path) = place();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        make(&path);
        match Store::open(&path) {
            Err(StoreError::Foreign { found, .. }) => assert_eq!(found, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn a_database_of_another_program_and_a_newer_format_are_refused() {
    let (_folder, path) = place();
    drop(Store::open(&path).unwrap());
    for (write, expect) in [(None, "another program"), (Some(FORMAT + 1), "newer release")] {
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.delete_table(MARK).unwrap();
        if let Some(format) = write {
            transaction.open_table(MARK).unwrap().insert(MARK_KEY, format).unwrap();
        }
        transaction.commit().unwrap();
        drop(database);
        let text = Store::open(&path).unwrap_err().to_string();
        assert!(text.contains(expect), "{text}");
    }
}

#[test]
fn a_file_open_to_others_is_refused_with_the_remedy() {
    let (_folder, path) = place();
    drop(Store::open(&path).unwrap());
    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::OpenToOthers { .. }), "{error:?}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

/// One flipped bit at a time over the whole file: refused or harmless, never a panic or another value.
#[test]
fn damage_is_reported_or_does_no_harm_and_never_changes_what_is_read() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    for at in 0..200_u32 {
        put(&store, Table::Documents, &at.to_be_bytes(), &[7; 300]);
    }
    let expected = store.all(Table::Documents).unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for at in (0..whole.len()).step_by(whole.len() / 257) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        match Store::open(&path) {
            Ok(store) => {
                assert_eq!(store.all(Table::Documents).unwrap(), expected, "offset {at}");
                harmless += 1;
            }
            Err(StoreError::Damaged { .. } | StoreError::Foreign { .. }) => {
                refused += 1;
                assert_eq!(std::fs::read(&path).unwrap(), damaged, "offset {at}: left as it was");
            }
            Err(other) => panic!("offset {at}: {other:?}"),
        }
    }
    assert!(refused > 10, "refused {refused}, harmless {harmless}");
}

#[test]
fn a_file_cut_short_is_damaged() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    put(&store, Table::Journal, b"a", b"1");
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    for length in [100, 4096, whole.len() / 2] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{length}: {error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), whole[..length], "{length}: left as it was");
    }
}

/// A disk in memory with a write cache that a power cut empties.
#[derive(Clone, Debug, Default)]
struct Disk(std::sync::Arc<std::sync::Mutex<Media>>);

#[derive(Debug, Default)]
struct Media {
    cached: Vec<u8>,
    synced: Vec<u8>,
}

impl Disk {
    fn media(&self) -> std::sync::MutexGuard<'_, Media> {
        self.0.lock().unwrap()
    }

    /// The disk as it is after the power came back.
    fn after_a_cut(&self) -> Self {
        let synced = self.media().synced.clone();
        Self(std::sync::Arc::new(std::sync::Mutex::new(Media { cached: synced.clone(), synced })))
    }

    fn open(&self) -> Store {
        let database = Database::builder().create_with_backend(self.clone()).unwrap();
        Store { database, path: "a disk in memory".into() }
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.media().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let at = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.media().cached[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.media().cached.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        let mut media = self.media();
        media.synced = media.cached.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        let at = usize::try_from(offset).unwrap();
        self.media().cached[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn a_commit_that_returned_survives_a_power_cut() {
    let disk = Disk::default();
    let store = disk.open();
    for at in 0..20_u8 {
        put(&store, Table::Documents, &[at], &[at; 2000]);
        let later = disk.after_a_cut().open();
        let keys: Vec<_> = later.all(Table::Documents).unwrap().into_iter().map(|(key, _)| key[0]).collect();
        assert_eq!(keys, (0..=at).collect::<Vec<_>>());
    }
}
