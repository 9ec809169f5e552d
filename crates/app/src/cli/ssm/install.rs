//! `ravelin ssm install-plugin`: the link by which the aws CLI finds this program in the plugin's place.

use super::fault::Fault;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The name that the aws CLI looks for.
pub(crate) const NAME: &str = "session-manager-plugin";

/// What the options of the command may be.
const USAGE: &str = "usage: ravelin ssm install-plugin [--dir DIR] [--force]";

/// Whether this process was started by the plugin's name.
pub(crate) fn is_called_as_plugin(program: &OsStr) -> bool {
    Path::new(program).file_stem() == Some(OsStr::new(NAME))
}

/// Makes the link, and says where and what is left to do.
pub(super) fn install(args: &[String]) -> Result<String, Fault> {
    let (mut folder, mut force) = (None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--force" => force = true,
            "--dir" => folder = Some(PathBuf::from(args.next().ok_or_else(|| Fault::usage(USAGE))?)),
            other => match other.strip_prefix("--dir=") {
                Some(value) => folder = Some(PathBuf::from(value)),
                None => return Err(Fault::usage(format!("{USAGE}\n\nUnknown options: {other}"))),
            },
        }
    }
    let path: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let folder = match folder {
        Some(folder) => folder,
        None => usual_folder(&path)?,
    };
    let program =
        std::env::current_exe().map_err(|error| Fault::other(format!("cannot tell where ravelin is: {error}")))?;
    let link = link(&folder, &program, force).map_err(Fault::other)?;
    Ok(report(&link, &program, &folder, &path))
}

/// The first folder on PATH that is the person's own, or else the usual one.
fn usual_folder(path: &[PathBuf]) -> Result<PathBuf, Fault> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = home.ok_or_else(|| Fault::other("HOME is not set: say where with --dir"))?;
    let usual = [home.join(".local/bin"), home.join("bin")];
    Ok(usual.iter().find(|folder| path.contains(folder)).unwrap_or(&usual[0]).clone())
}

fn link(folder: &Path, program: &Path, force: bool) -> Result<PathBuf, String> {
    let link = folder.join(NAME);
    std::fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    match std::fs::symlink_metadata(&link) {
        Ok(found) => {
            let ours = found.is_symlink()
                && std::fs::read_link(&link).is_ok_and(|to| to.file_name() == program.file_name() || to == program);
            if found.is_dir() || (!ours && !force) {
                return Err(format!(
                    "{} is there and is not ravelin's: it stays as it is; --force puts the link in its place, --dir puts it \
                     elsewhere",
                    link.display()
                ));
            }
            std::fs::remove_file(&link).map_err(|error| format!("cannot remove {}: {error}", link.display()))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("cannot look at {}: {error}", link.display())),
    }
    std::os::unix::fs::symlink(program, &link).map_err(|error| format!("cannot make {}: {error}", link.display()))?;
    Ok(link)
}

fn report(link: &Path, program: &Path, folder: &Path, path: &[PathBuf]) -> String {
    let mut text = format!("{} -> {}\n", link.display(), program.display());
    if !path.iter().any(|there| there == folder) {
        text.push_str(&format!(
            "{0} is not on PATH, so that the aws CLI does not find it there; add it:\n  export PATH=\"{0}:$PATH\"\n",
            folder.display()
        ));
    } else if let Some(before) =
        path.iter().take_while(|there| *there != folder).map(|there| there.join(NAME)).find(|other| other.exists())
    {
        text.push_str(&format!("the aws CLI still finds {} first: it stands before on PATH\n", before.display()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_again_and_what_is_not_ours_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let (inside, program) = (folder.path().join("a/bin"), folder.path().join("ravelin"));
        let made = link(&inside, &program, false).expect("a link");
        assert_eq!(std::fs::read_link(&made).expect("a link"), program);
        link(&inside, &program, false).expect("the same again");
        link(&inside, &folder.path().join("newer/ravelin"), false).expect("a newer ravelin");

        std::fs::remove_file(&made).expect("ours");
        std::fs::write(&made, "the vendor's").expect("a file");
        let refused = link(&inside, &program, false).expect_err("not ours");
        assert!(refused.contains("--force"), "{refused}");
        assert_eq!(std::fs::read(&made).expect("still there"), b"the vendor's");
        link(&inside, &program, true).expect("by force");
        assert_eq!(std::fs::read_link(&made).expect("a link"), program);

        std::fs::remove_file(&made).expect("ours");
        std::fs::create_dir(&made).expect("a folder");
        link(&inside, &program, true).expect_err("a folder is nothing to force");
    }

    #[test]
    fn what_is_left_to_do_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, second) = (folder.path().join("1"), folder.path().join("2"));
        std::fs::create_dir_all(&first).expect("a folder");
        let program = folder.path().join("ravelin");
        let link = second.join(NAME);
        let text = |path: &[PathBuf]| report(&link, &program, &second, path);
        assert!(text(&[]).contains("is not on PATH"));
        assert_eq!(text(&[first.clone(), second.clone()]).lines().count(), 1);
        std::fs::write(first.join(NAME), "").expect("a file");
        assert!(text(&[first.clone(), second.clone()]).contains("finds"));
        assert_eq!(text(&[second.clone(), first]).lines().count(), 1);
    }

    #[test]
    fn the_name_decides() {
        for (program, is) in [
            ("session-manager-plugin", true),
            ("/usr/local/bin/session-manager-plugin", true),
            ("session-manager-plugin.exe", true),
            ("ravelin", false),
            ("/session-manager-plugin/ravelin", false),
        ] {
            assert_eq!(is_called_as_plugin(OsStr::new(program)), is, "{program}");
        }
    }
}
