/* Whether a graph is as it was. Included by _graph.c. */

typedef struct {
    const uintptr_t *at, *end;
} Check;

static inline int differs(uintptr_t now, Check *c)
{
    return c->at == c->end || (*c->at++ & ~NOT_OWNED) != now;
}

static int child_differs(PyObject *o, void *arg)
{
    return differs((uintptr_t)o, arg);
}

static int word_differs(uintptr_t word, void *arg)
{
    return differs(word & ~NOT_OWNED, arg);
}

static int graph_differs(const Snapshot *s, PyObject **roots, size_t nroots)
{
    if (nroots != s->nroots)
        return 1;
    Check c = {s->words, s->words + nroots};
    for (size_t i = 0; i < nroots; i++)
        if (child_differs(roots[i], &c))
            return 1;
    for (size_t i = 0; i < s->nrecords; i++) {
        const Record *record = &s->records[i];
        if (i + 8 < s->nrecords)
            __builtin_prefetch(s->records[i + 8].obj);
        const Info *info = info_at(s->infos, record->type);
        c.end = c.at + record->count;
        if (Py_TYPE(record->obj) != info->type)
            return 1;
        if (words(record->obj, info, child_differs, word_differs, &c) || c.at != c.end)
            return 1;
    }
    for (size_t i = 0; i < s->nleaves; i++)
        if (Py_TYPE(s->leaves[i].obj) != s->leaves[i].type)
            return 1;
    return 0;
}

/* 1 if a token differs, 0 if none does, -1 with an exception. */
static int tokens_differ(Snapshot *s, PyObject *held)
{
    for (size_t i = 0; i < s->nleaves; i++) {
        PyObject *token = PyObject_CallOneArg(s->leaf, PyTuple_GET_ITEM(held, (Py_ssize_t)i));
        if (token == NULL)
            return -1;
        int same = token != Py_None ? PyObject_RichCompareBool(token, s->leaves[i].token, Py_EQ) : 0;
        Py_DECREF(token);
        if (same <= 0)
            return same < 0 ? -1 : 1;
    }
    return 0;
}
