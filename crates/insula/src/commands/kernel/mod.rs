//! `insula kernel`: the kernels that guests are started with.
//!
//! | file | holds |
//! |---|---|
//! | `library` | the directory they are kept in, and what an entry says |
//! | `modules` | a guest's modules: which it needs, and what they need |
//! | `initrd` | the initial file system that loads them |
//! | `debian` | Debian's kernel, out of its package |
//! | `build` | a small kernel, out of a distribution's source |
//! | `host` | the host's programs that this takes |

mod build;
mod debian;
mod host;
mod initrd;
mod library;
mod modules;

use crate::show::{printable, show};
use crate::table;
use anyhow::Context;
use clap::ValueEnum;
use host::Host;
use insula_spec::Id;
use library::{Entry, Library};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Keep the kernels that virtual machines start with
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  insula kernel import --debian\n  \
    insula kernel import /boot/vmlinuz-6.1.0 --modules /lib/modules/6.1.0 --name mine\n  \
    insula kernel build --name micro\n  insula kernel list\n  insula kernel remove mine")]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    /// Directory of the kernels; default: /var/lib/insula/kernels, for plain users insula/kernels in $XDG_DATA_HOME
    #[arg(long, global = true, value_name = "DIR")]
    library: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Import(Import),
    Build(build::Build),
    List(List),
    Remove(Remove),
}

/// Copy a kernel into the library, and unpack it
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
struct Import {
    /// A vmlinux, or a vmlinuz (bzImage) compressed with gzip, xz, zstd or lz4
    #[arg(value_name = "FILE", group = "source")]
    file: Option<PathBuf>,
    /// Take Debian's linux-image-cloud-amd64 and the modules a guest needs, by apt-get download
    #[arg(long, group = "source")]
    debian: bool,
    /// Its name in the library; default: its release, as uname -r shows it
    #[arg(long, value_name = "NAME")]
    name: Option<Id>,
    /// The kernel's modules, a directory as /lib/modules/RELEASE
    #[arg(long, value_name = "DIR", conflicts_with = "debian")]
    modules: Option<PathBuf>,
}

/// List the kernels of the library
#[derive(clap::Args)]
#[command(visible_alias = "ls")]
struct List {
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: Format,
}

/// Remove kernels from the library; machines that run have copies of their own
#[derive(clap::Args)]
#[command(visible_alias = "rm")]
struct Remove {
    /// Their names, as list shows them
    #[arg(value_name = "NAME", required = true)]
    names: Vec<Id>,
}

/// Forms of the output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns
    Table,
    /// An array of objects; sizes in bytes
    Json,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let library = Library::new(args.library.map_or_else(default_library, Ok)?);
    match args.verb {
        Verb::Import(args) => import(&library, args),
        Verb::Build(args) => {
            show(format!("{}\n", build::main(&library, args)?))?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::List(args) => list(&library, args.format),
        Verb::Remove(args) => {
            args.names.iter().try_for_each(|name| library.remove(name))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Where kernels are, unless it is said.
fn default_library() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/insula/kernels".into());
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    Ok(data.context("neither XDG_DATA_HOME nor HOME names a directory; say --library DIR")?.join("insula/kernels"))
}

/// The kernel's image that a user means: a file, or an entry of the library by its name.
pub(crate) fn image(said: &Path) -> PathBuf {
    let Some(name) = said.to_str().and_then(|name| name.parse::<Id>().ok()).filter(|_| !said.exists()) else {
        return said.into();
    };
    let entry = default_library().map(|library| Library::new(library).image(&name));
    entry.ok().filter(|image| image.exists()).unwrap_or_else(|| said.into())
}

/// Where an image of the library's lies unpacked.
pub(crate) fn unpacked(image: &Path) -> Option<PathBuf> {
    beside(image, library::UNPACKED)
}

/// The initial file system that an image of the library's needs, for a guest that brings none.
pub(crate) fn initrd(image: &Path) -> Option<PathBuf> {
    beside(image, library::INITRD)
}

fn beside(image: &Path, name: &str) -> Option<PathBuf> {
    let entry = image.parent().filter(|entry| entry.join(library::FACTS).exists())?;
    Some(entry.join(name)).filter(|path| path.exists())
}

fn import(library: &Library, args: Import) -> anyhow::Result<ExitCode> {
    let host = Host::new()?;
    let draft = library.draft()?;
    let origin;
    if let Some(file) = &args.file {
        draft.take_image(file)?;
        if let Some(modules) = &args.modules {
            let left_out = modules::copy_tree(modules, &draft.modules())?;
            if left_out > 0 {
                crate::show::warn(format_args!("insula: left out what is no file in {}: {left_out}", modules.display()));
            }
        }
        origin = std::path::absolute(file).unwrap_or_else(|_| file.clone()).display().to_string();
    } else {
        let package = debian::fetch(&host)?;
        draft.take_image(&package.image)?;
        let lacking = modules::copy_needed(&package.modules, &draft.modules())?;
        if !lacking.is_empty() {
            crate::show::warn(format_args!("insula: this kernel has no module {}", lacking.join(", ")));
        }
        origin = package.origin;
    }
    host.check()?;
    let entry = draft.finish(args.name, origin)?;
    show(format!("{}\n", entry.name))?;
    Ok(ExitCode::SUCCESS)
}

fn list(library: &Library, format: Format) -> anyhow::Result<ExitCode> {
    let (entries, broken) = library.list()?;
    for error in &broken {
        crate::show::warn(format_args!("insula: {error:#}"));
    }
    if format == Format::Json {
        show(format!("{}\n", serde_json::to_string(&entries)?))?;
    } else {
        let row = |entry: &Entry| {
            let version = entry.version.as_deref().unwrap_or("-");
            let size = format!("{} MiB", entry.size.div_ceil(1 << 20));
            let hash = entry.sha256.get(..12).unwrap_or("-");
            let origin = if entry.origin.is_empty() { "-" } else { &entry.origin };
            [&entry.name, version, &entry.format, &size, &entry.modules.to_string(), hash, origin].map(printable).to_vec()
        };
        let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
        show(table::lines(&["NAME", "VERSION", "FORMAT", "SIZE", "MODULES", "SHA256", "FROM"], &rows))?;
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
