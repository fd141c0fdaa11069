/* What changed from one snapshot to a later one. Included by _graph.c. */

typedef struct {
    const Snapshot *old;
    size_t *offsets;     /* of each record's words */
    uint32_t *cells;     /* index of a record + 1 by its address; made when it is first needed */
    size_t mask, next;   /* next: where the last one was found, and one more */
    uint8_t *met;
} Before;

static void forget_before(Before *b)
{
    PyMem_RawFree(b->offsets);
    PyMem_RawFree(b->cells);
    PyMem_RawFree(b->met);
}

static int open_before(Before *b, const Snapshot *old)
{
    *b = (Before){.old = old, .offsets = PyMem_RawMalloc((old->nrecords + 1) * sizeof *b->offsets),
                  .met = PyMem_RawCalloc(old->nrecords + 1, 1)};
    if (b->offsets == NULL || b->met == NULL) {
        forget_before(b);
        PyErr_NoMemory();
        return -1;
    }
    size_t at = old->nroots;
    for (size_t i = 0; i < old->nrecords; i++) {
        b->offsets[i] = at;
        at += old->records[i].count;
    }
    return 0;
}

static int index_before(Before *b)
{
    size_t size = 64;
    while (size < 2 * b->old->nrecords)
        size *= 2;
    b->cells = PyMem_RawCalloc(size, sizeof *b->cells);
    if (b->cells == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    b->mask = size - 1;
    for (size_t i = 0; i < b->old->nrecords; i++) {
        size_t at = hash_of(b->old->records[i].obj) & b->mask;
        while (b->cells[at] != 0)
            at = (at + 1) & b->mask;
        b->cells[at] = (uint32_t)i + 1;
    }
    return 0;
}

/* Index of the record of what was at the address of `o`; -1 if there is none, -2 with an exception. Both snapshots list
   what did not move in the same order, so the next one is tried first. */
static Py_ssize_t find_before(Before *b, PyObject *o)
{
    if (b->next < b->old->nrecords && b->old->records[b->next].obj == o)
        return (Py_ssize_t)b->next++;
    if (b->cells == NULL && index_before(b) < 0)
        return -2;
    for (size_t at = hash_of(o) & b->mask; b->cells[at] != 0; at = (at + 1) & b->mask)
        if (b->old->records[b->cells[at] - 1].obj == o) {
            b->next = b->cells[at];
            return (Py_ssize_t)b->next - 1;
        }
    return -1;
}

static int append_new(PyObject *list, PyObject *item)
{
    int failed = item == NULL || PyList_Append(list, item) < 0;
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

/* Addresses that can be looked up; the table is made when the first one is. */
typedef struct {
    const uintptr_t *all;
    size_t n, mask;
    size_t *cells;       /* index + 1 */
} Addresses;

/* Index of `address`; -1 if it is not among them, -2 with an exception. */
static Py_ssize_t find_address(Addresses *s, uintptr_t address)
{
    if (s->cells == NULL) {
        size_t size = 64;
        while (size < 2 * s->n)
            size *= 2;
        if ((s->cells = PyMem_RawCalloc(size, sizeof *s->cells)) == NULL) {
            PyErr_NoMemory();
            return -2;
        }
        s->mask = size - 1;
        for (size_t i = 0; i < s->n; i++) {
            size_t at = hash_of((void *)s->all[i]) & s->mask;
            while (s->cells[at] != 0)
                at = (at + 1) & s->mask;
            s->cells[at] = i + 1;
        }
    }
    for (size_t at = hash_of((void *)address) & s->mask; s->cells[at] != 0; at = (at + 1) & s->mask)
        if (s->all[s->cells[at] - 1] == address)
            return (Py_ssize_t)s->cells[at] - 1;
    return -1;
}

/* Into `extra`, what is in `a` and not in `b`; they mostly agree, in order. */
static int list_extra(const uintptr_t *a, size_t na, Addresses *b, PyObject *extra)
{
    for (size_t i = 0, next = 0; i < na; i++) {
        if (next < b->n && b->all[next] == a[i]) {
            next++;
            continue;
        }
        Py_ssize_t k = find_address(b, a[i]);
        if (k == -2 || (k == -1 && append_new(extra, PyLong_FromVoidPtr((void *)a[i])) < 0))
            return -1;
        if (k >= 0)
            next = (size_t)k + 1;
    }
    return 0;
}

/* (object, words before that are as they were, words after, the children between or None) */
static PyObject *edit_of(const Record *new, const Info *info, const uintptr_t *now, const Record *old,
                         const uintptr_t *then)
{
    size_t n = new->count, m = old->count, unit = info->body == DICT_BODY ? 2 : 1, before = 0, after = 0;
    int is_listed = info->nslots == 0 && !info->has_dict
                    && (info->body == LIST_BODY || info->body == DICT_BODY || info->body == SET_BODY);
    if (!is_listed)
        return Py_BuildValue("OnnO", new->obj, (Py_ssize_t)0, (Py_ssize_t)0, Py_None);
    while (before < n && before < m && now[before] == then[before])
        before++;
    before -= before % unit;
    while (after < n - before && after < m - before && now[n - 1 - after] == then[m - 1 - after])
        after++;
    after -= after % unit;
    PyObject *middle = PyList_New((Py_ssize_t)(n - before - after));
    if (middle == NULL)
        return NULL;
    for (size_t i = before; i < n - after; i++) {
        PyObject *child = (PyObject *)(now[i] & ~NOT_OWNED);
        PyList_SET_ITEM(middle, (Py_ssize_t)(i - before), Py_NewRef(child != NULL ? child : Py_None));
    }
    return Py_BuildValue("OnnN", new->obj, (Py_ssize_t)(before / unit), (Py_ssize_t)(after / unit), middle);
}

/* 1: done; 0: they cannot be compared; -1 with an exception. */
static int compare_records(const Snapshot *new, Before *b, Addresses *shared, PyObject *changed, PyObject *added)
{
    size_t at = new->nroots;
    for (size_t i = 0; i < new->nrecords; i++) {
        const Record *record = &new->records[i];
        const uintptr_t *now = new->words + at;
        at += record->count;
        Py_ssize_t k = find_before(b, record->obj);
        if (k == -2)
            return -1;
        if (k == -1) {
            /* the dictionary of an instance, that something else refers to from now on */
            Py_ssize_t known = PyDict_Check(record->obj) ? find_address(shared, (uintptr_t)record->obj) : -1;
            if (known != -1)
                return known == -2 ? -1 : 0;
            if (append_new(added, PyLong_FromVoidPtr(record->obj)) < 0)
                return -1;
            continue;
        }
        const Record *before = &b->old->records[k];
        const Info *info = info_at(new->infos, record->type);
        if (info->type != info_at(b->old->infos, before->type)->type)
            return 0;
        b->met[k] = 1;
        const uintptr_t *then = b->old->words + b->offsets[k];
        if (record->count == before->count && memcmp(now, then, record->count * sizeof *now) == 0)
            continue;
        if (append_new(changed, edit_of(record, info, now, before, then)) < 0)
            return -1;
    }
    return 1;
}

static int list_gone(const Before *b, PyObject *gone)
{
    for (size_t i = 0; i < b->old->nrecords; i++)
        if (!b->met[i] && append_new(gone, PyLong_FromVoidPtr(b->old->records[i].obj)) < 0)
            return -1;
    return 0;
}

static int has_same_leaves(const Snapshot *a, const Snapshot *b)
{
    if (a->nleaves != b->nleaves)
        return 0;
    for (size_t i = 0; i < a->nleaves; i++)
        if (a->leaves[i].obj != b->leaves[i].obj || a->leaves[i].type != b->leaves[i].type)
            return 0;
    return 1;
}

/* (changed, added, gone, added that can be shared, gone ones of those); None if they cannot be compared. `new` must
   have been taken just now: what it has met is read. */
static PyObject *difference(const Snapshot *new, const Snapshot *old)
{
    if (old->nroots == SIZE_MAX || !has_same_leaves(new, old))
        Py_RETURN_NONE;
    PyObject *lists[5] = {NULL};
    PyObject *found = PyTuple_New(5);
    Before b;
    Addresses before = {.all = old->shared, .n = old->nshared}, now = {.all = new->shared, .n = new->nshared};
    if (found == NULL || open_before(&b, old) < 0) {
        Py_XDECREF(found);
        return NULL;
    }
    for (int i = 0; i < 5; i++) {
        if ((lists[i] = PyList_New(0)) == NULL)
            goto failed;
        PyTuple_SET_ITEM(found, i, lists[i]);
    }
    int compared = compare_records(new, &b, &before, lists[0], lists[1]);
    if (compared < 0 || (compared && (list_gone(&b, lists[2]) < 0
                                      || list_extra(now.all, now.n, &before, lists[3]) < 0
                                      || list_extra(before.all, before.n, &now, lists[4]) < 0)))
        goto failed;
    forget_before(&b);
    PyMem_RawFree(before.cells);
    PyMem_RawFree(now.cells);
    if (!compared) {
        Py_DECREF(found);
        Py_RETURN_NONE;
    }
    return found;
failed:
    forget_before(&b);
    PyMem_RawFree(before.cells);
    PyMem_RawFree(now.cells);
    Py_DECREF(found);
    return NULL;
}

/* Replaces `*found` by None unless every leaf has the token it had. Runs the code of tokens. */
static int compare_tokens(const Snapshot *new, const Snapshot *old, PyObject **found)
{
    for (size_t i = 0; *found != Py_None && i < new->nleaves; i++) {
        if (i >= old->nleaves)  /* it was cleared meanwhile */
            break;
        PyObject *then = Py_NewRef(old->leaves[i].token);
        int same = PyObject_RichCompareBool(new->leaves[i].token, then, Py_EQ);
        Py_DECREF(then);
        if (same < 0)
            return -1;
        if (!same)
            Py_SETREF(*found, Py_NewRef(Py_None));
    }
    return 0;
}
