/*
 * Runs a program as root with these capabilities and no others, as systemd's CapabilityBoundingSet and NoNewPrivileges
 * do: with_rights NUMBERS PROGRAM ARGUMENTS..., the numbers with commas between them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	unsigned long long kept = 0;
	if (argc < 3)
		return 2;
	for (char *at = argv[1]; *at; at += *at == ',')
		kept |= 1ull << strtoul(at, &at, 10);
	for (int number = 0; prctl(PR_CAPBSET_READ, number) >= 0; number++) {
		if (!(kept >> number & 1) && prctl(PR_CAPBSET_DROP, number)) {
			perror("PR_CAPBSET_DROP");
			return 1;
		}
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
		perror("PR_SET_NO_NEW_PRIVS");
		return 1;
	}
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 1;
}
