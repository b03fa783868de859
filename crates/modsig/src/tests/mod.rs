mod elf;
mod signature;
