// expect: changed f, h
// expect: outside __ext4_journal_start_sb
// Before 6.2 the second argument is a line, the third the type of the transaction.
void *__ext4_journal_start_sb(void *sb, unsigned int line, int type, int blocks, int rsv_blocks, int revoke_creds);
#ifdef PATCHED
#define TYPE 2
#else
#define TYPE 1
#endif

int f(int x)
{
#ifdef PATCHED
	if (x < 0)
		return 0;

#line 100
#endif
	return x;
}

void *g(void *sb)
{
	return __ext4_journal_start_sb(sb, __LINE__, 1, 2, 3, 4);
}

void *h(void *sb)
{
	return __ext4_journal_start_sb(sb, 1, TYPE, 2, 3, 4);
}
