// Prints bytes of the running kernel's memory, out of /proc/kcore: kcore ADDRESS LENGTH
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	unsigned char bytes[64];
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	unsigned long address, length;
	int i, kcore = open("/proc/kcore", O_RDONLY);

	if (argc != 3 || kcore < 0)
		return 2;
	address = strtoul(argv[1], NULL, 16);
	length = strtoul(argv[2], NULL, 10);
	if (length > sizeof(bytes) || pread(kcore, &header, sizeof(header), 0) != sizeof(header))
		return 2;
	for (i = 0; i < header.e_phnum; i++) {
		off_t at = header.e_phoff + i * sizeof(segment);

		if (pread(kcore, &segment, sizeof(segment), at) != sizeof(segment))
			return 2;
		if (segment.p_type != PT_LOAD || address < segment.p_vaddr ||
		    address + length > segment.p_vaddr + segment.p_memsz)
			continue;
		if (pread(kcore, bytes, length, segment.p_offset + address - segment.p_vaddr) != (ssize_t)length)
			return 2;
		for (unsigned long byte = 0; byte < length; byte++)
			printf("%02x", bytes[byte]);
		printf("\n");
		return 0;
	}
	return 1;
}
