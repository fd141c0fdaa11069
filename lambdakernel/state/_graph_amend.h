/* A snapshot that is another one but for a few objects. Included by _graph.c.

   Theory of operation
   - What a cell changes in a large graph is mostly a few objects. So the check goes on past a difference: it writes down
     anew what changed, visits what is new, and the rest stays with the snapshot that was there, the *base*.
   - The check reads an object because one before it, its *parent*, was found to refer to it. An object whose parent lets
     go of it is in *doubt*, and so is what has its place below that one; none of it is read. When the rest is known, a
     scan of all words says which of them something else refers to. Those are kept, with a parent before them; what only
     others in doubt refer to is gone.
   - Where any of this would need more than a few objects, or another order, nothing is said, and the caller takes a whole
     snapshot. So it is where a number, an opaque object, or the dictionary of an instance is another one. */

enum { MOST_PARTS = 512, MOST_IN_DOUBT = 64, MOST_COMPARED = 1 << 22, MOST_NUMBERS = 16, ROUNDS = 8 };

typedef struct {
    Snapshot *new;             /* under construction; its base, and parts as they were at first */
    const Snapshot *base, *old;
    Walk walk;                 /* for what it knows of types */
    uintptr_t *words;          /* of the object that is read */
    size_t n, room;
    size_t numbers[MOST_NUMBERS], nnumbers;  /* which of them are no references */
    const uintptr_t *then;     /* what was read of it before, and how much that is */
    size_t nthen;
    uint32_t *doubt;           /* indexes, ascending */
    size_t ndoubt;
    PyObject *edits, *added, *gone, *shared_added, *shared_gone;
} Amend;

/* -- objects of a snapshot that has a base, in the order of its check: of the base, then its own */

typedef struct {
    const Snapshot *s;
    size_t next, at, part;     /* the next object; where its words are in the base; the next part that replaces one */
} Cursor;

static Cursor cursor_of(const Snapshot *s)
{
    return (Cursor){s, 0, s->base->nroots, 0};
}

static const Record *record_at(const Snapshot *s, size_t i)
{
    return i < s->base->nrecords ? &s->base->records[i] : &s->parts[s->nchanged + i - s->base->nrecords].record;
}

static size_t count_of(const Snapshot *s)
{
    return s->base->nrecords + s->nparts - s->nchanged;
}

/* The next object that is not gone, its index in `i`; NULL at the end. Its words are `n` from `words`. */
static inline const Record *next_object(Cursor *c, size_t *i, const uintptr_t **words, size_t *n)
{
    const Snapshot *s = c->s, *base = s->base;
    while (c->next < base->nrecords) {
        *i = c->next++;
        const Record *record = &base->records[*i];
        *words = base->words + c->at;
        *n = record->count;
        c->at += record->count;
        if (c->part < s->nchanged && s->parts[c->part].index == *i) {
            const Part *part = &s->parts[c->part++];
            if (part->is_gone)
                continue;
            *words = part->words;
            *n = part->record.count;
        }
        return record;
    }
    while (c->next < count_of(s)) {
        *i = c->next++;
        const Part *part = &s->parts[s->nchanged + *i - base->nrecords];
        if (part->is_gone)
            continue;
        *words = part->words;
        *n = part->record.count;
        return &part->record;
    }
    return NULL;
}

static int amended_graph_differs(const Snapshot *s, PyObject **roots, size_t nroots)
{
    if (nroots != s->nroots || s->base->nroots == SIZE_MAX)
        return 1;
    Check c = {s->words, s->words + nroots};
    for (size_t i = 0; i < nroots; i++)
        if (child_differs(roots[i], &c))
            return 1;
    Cursor cursor = cursor_of(s);
    size_t i, n;
    const uintptr_t *then;
    for (const Record *record; (record = next_object(&cursor, &i, &then, &n)) != NULL;) {
        if (i + 8 < s->base->nrecords)
            __builtin_prefetch(s->base->records[i + 8].obj);
        const Info *info = info_at(s->base->infos, record->type);
        c = (Check){then, then + n};
        if (Py_TYPE(record->obj) != info->type || words(record->obj, info, child_differs, word_differs, &c) || c.at != c.end)
            return 1;
    }
    for (size_t k = 0; k < s->base->nleaves; k++)
        if (Py_TYPE(s->base->leaves[k].obj) != s->base->leaves[k].type)
            return 1;
    return 0;
}

/* -- parts */

static void drop_words(uintptr_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(words[i] & NOT_OWNED))
            Py_DECREF((PyObject *)words[i]);
    PyMem_RawFree(words);
}

static void drop_parts(Snapshot *s)
{
    for (size_t i = 0; i < s->nparts; i++)
        drop_words(s->parts[i].words, s->parts[i].record.count);
    PyMem_RawFree(s->parts);
    PyMem_RawFree(s->moves);
    PyMem_RawFree(s->shared_gone);
    s->parts = NULL;
    s->moves = NULL;
    s->shared_gone = NULL;
    s->nparts = s->nchanged = s->nmoves = s->nshared_gone = 0;
}

static uintptr_t *own_words(const uintptr_t *words, size_t n)
{
    uintptr_t *own = PyMem_RawMalloc((n + 1) * sizeof *own);
    if (own == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        own[i] = words[i];
        if (!(own[i] & NOT_OWNED))
            Py_INCREF((PyObject *)own[i]);
    }
    return own;
}

/* Room for MOST_PARTS, with those of `old`. */
static int copy_parts(Snapshot *s, const Snapshot *old)
{
    s->parts = PyMem_RawCalloc(MOST_PARTS, sizeof *s->parts);
    s->moves = PyMem_RawCalloc(MOST_PARTS, sizeof *s->moves);
    if (s->parts == NULL || s->moves == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    if (old->base == NULL)
        return WRITTEN;
    memcpy(s->moves, old->moves, old->nmoves * sizeof *s->moves);
    s->nmoves = old->nmoves;
    for (size_t i = 0; i < old->nparts; i++) {
        s->parts[i] = old->parts[i];
        if ((s->parts[i].words = own_words(old->parts[i].words, old->parts[i].record.count)) == NULL)
            return FAILED;
        s->nparts++;
    }
    s->nchanged = old->nchanged;
    return WRITTEN;
}

/* Where the part that replaces object `i` of the base is, or would be. */
static size_t find_changed(const Snapshot *s, size_t i)
{
    size_t low = 0, high = s->nchanged;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->parts[middle].index < i)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The part of object `i`, made if there is none; NULL if there are too many, or with an exception. */
static Part *part_of(Snapshot *s, size_t i)
{
    if (i >= s->base->nrecords)
        return &s->parts[s->nchanged + i - s->base->nrecords];
    size_t at = find_changed(s, i);
    if (at < s->nchanged && s->parts[at].index == i)
        return &s->parts[at];
    if (s->nparts == MOST_PARTS)
        return NULL;
    memmove(&s->parts[at + 1], &s->parts[at], (s->nparts - at) * sizeof *s->parts);
    s->parts[at] = (Part){.record = s->base->records[i], .index = (uint32_t)i};
    s->parts[at].record.count = 0;
    s->nparts++;
    s->nchanged++;
    return &s->parts[at];
}

static uint32_t parent_of(const Snapshot *s, size_t i)
{
    for (size_t m = s->nmoves; m-- > 0;)
        if (s->moves[m].index == i)
            return s->moves[m].parent;
    return i < s->base->nrecords ? s->base->parents[i] : s->parts[s->nchanged + i - s->base->nrecords].parent;
}

/* Index of the record of what was at `address`; -1 if there is none, -2 with an exception. */
static Py_ssize_t find_record(Snapshot *s, uintptr_t address)
{
    if (s->cells == NULL) {
        Before b = {.old = s};
        if (index_before(&b) < 0)
            return -2;
        s->cells = b.cells;
        s->cells_mask = b.mask;
    }
    for (size_t at = hash_of((void *)address) & s->cells_mask; s->cells[at] != 0; at = (at + 1) & s->cells_mask)
        if ((uintptr_t)s->records[s->cells[at] - 1].obj == address)
            return (Py_ssize_t)s->cells[at] - 1;
    return -1;
}

/* Index of the object at `address` that is not gone; -1 if there is none, -2 with an exception. */
static Py_ssize_t find_object(const Snapshot *s, uintptr_t address)
{
    Snapshot *base = s->base;
    for (size_t i = s->nchanged; i < s->nparts; i++)
        if ((uintptr_t)s->parts[i].record.obj == address && !s->parts[i].is_gone)
            return (Py_ssize_t)(base->nrecords + i - s->nchanged);
    Py_ssize_t i = find_record(base, address);
    size_t part = i >= 0 ? find_changed(s, (size_t)i) : 0;
    return i >= 0 && part < s->nchanged && s->parts[part].index == (uint32_t)i && s->parts[part].is_gone ? -1 : i;
}

/* -- what an object holds now */

static int add_read(Amend *a, uintptr_t word)
{
    if (a->n == a->room && grow(&a->words, &a->room, a->n + 1, sizeof *a->words) < 0)
        return 1;
    a->words[a->n++] = word;
    return 0;
}

static int read_number(uintptr_t word, void *arg)
{
    Amend *a = arg;
    if (a->nnumbers == MOST_NUMBERS)
        return 1;
    a->numbers[a->nnumbers++] = a->n;
    return add_read(a, word | NOT_OWNED);
}

static int is_number(const Amend *a, size_t at)
{
    for (size_t k = 0; k < a->nnumbers; k++)
        if (a->numbers[k] == at)
            return 1;
    return 0;
}

static int is_leaf(const Snapshot *base, PyObject *o)
{
    for (size_t i = 0; i < base->nleaves; i++)
        if (base->leaves[i].obj == o)
            return 1;
    return 0;
}

static int read_child(PyObject *o, void *arg)
{
    Amend *a = arg;
    if (o == NULL)
        return add_read(a, NOT_OWNED);
    if (a->n < a->nthen && (a->then[a->n] & ~NOT_OWNED) == (uintptr_t)o)
        return add_read(a, a->then[a->n]);  /* an atom that was kept alive, or what is compared in its turn */
    Py_ssize_t index = type_index(&a->walk, o);
    if (index < 0)
        return 1;
    const Info *info = info_at(a->walk.types.infos, index);
    int owned = info->owned, role = info->role;
    if (role > OPAQUE && (role = role_of_object(&a->walk, o, info)) < 0)
        return 1;
    if ((role == OPAQUE || o == a->walk.live) && !is_leaf(a->base, o))
        return 1;
    int is_owned = role == ATOM || (role == CONTAINER && owned);
    return add_read(a, (uintptr_t)o | (is_owned ? 0 : NOT_OWNED));
}

static int read_object(Amend *a, PyObject *o, const Info *info, const uintptr_t *then, size_t n)
{
    a->n = a->nnumbers = 0;
    a->then = then;
    a->nthen = n;
    if (words(o, info, read_child, read_number, a))
        return PyErr_Occurred() ? FAILED : REFUSED;
    return WRITTEN;
}

/* -- doubt */

static size_t place_in_doubt(const Amend *a, size_t i)
{
    size_t at = 0;
    while (at < a->ndoubt && a->doubt[at] < i)
        at++;
    return at;
}

static int is_in_doubt(const Amend *a, size_t i)
{
    size_t at = a->ndoubt > 0 ? place_in_doubt(a, i) : 0;
    return at < a->ndoubt && a->doubt[at] == i;
}

static int put_in_doubt(Amend *a, size_t i)
{
    size_t at = place_in_doubt(a, i);
    if (at < a->ndoubt && a->doubt[at] == i)
        return WRITTEN;
    if (a->ndoubt == MOST_IN_DOUBT)
        return REFUSED;
    memmove(&a->doubt[at + 1], &a->doubt[at], (a->ndoubt - at) * sizeof *a->doubt);
    a->doubt[at] = (uint32_t)i;
    a->ndoubt++;
    return WRITTEN;
}

/* Whether one of some words refers to `object`. Numbers are where they are in what was just read. */
static int refers(const Amend *a, const uintptr_t *words, size_t n, uintptr_t object)
{
    for (size_t i = 0; i < n; i++)
        if ((words[i] & ~NOT_OWNED) == object && !is_number(a, i))
            return 1;
    return 0;
}

/* Where the address of the dictionary is among the words of an object: it is no reference to that. SIZE_MAX if it has
   none. */
static size_t place_of_dict(const Info *info)
{
    return info->has_dict && info->body == NO_BODY ? info->nslots : SIZE_MAX;
}

/* -- one object that changed */

/* The index in the base's types of the type of `o`; -1 if it has none. */
static Py_ssize_t known_type(const Snapshot *base, PyObject *o)
{
    for (size_t i = 0; i < nbases + base->ninfos; i++)
        if (info_at(base->infos, i)->type == Py_TYPE(o))
            return (Py_ssize_t)i;
    return -1;
}

/* Whether something at this address could be shared when it was last looked at; -1 with an exception. */
static int is_shared(Amend *a, uintptr_t address)
{
    Snapshot *base = a->new->base;
    Addresses shared = {.all = base->shared, .n = base->nshared, .mask = base->shared_mask, .cells = base->shared_cells};
    Py_ssize_t at = find_address(&shared, address);
    base->shared_mask = shared.mask;
    base->shared_cells = shared.cells;
    if (at != -1)
        return at < 0 ? -1 : 1;
    for (size_t i = 0; i < a->old->nshared && a->old->base != NULL; i++)
        if (a->old->shared[i] == address)
            return 1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(a->shared_added); i++)
        if ((uintptr_t)PyLong_AsVoidPtr(PyList_GET_ITEM(a->shared_added, i)) == address)
            return 1;
    return 0;
}

/* `o` is new below `parent`. Its words are read in its turn. */
static int add_object(Amend *a, PyObject *o, uint32_t parent)
{
    Snapshot *s = a->new;
    Py_ssize_t type = known_type(a->base, o);
    if (type < 0 || s->nparts == MOST_PARTS)
        return REFUSED;
    int is_known = PyDict_Check(o) && Py_REFCNT(o) > 1 ? is_shared(a, (uintptr_t)o) : 0;
    if (is_known)
        return is_known < 0 ? FAILED : REFUSED;  /* the dictionary of an instance, that something else refers to now */
    s->parts[s->nparts++] = (Part){.record = {o, (uint32_t)type, 0}, .index = UINT32_MAX, .parent = parent};
    return WRITTEN;
}

/* Whether an atom or an object is behind a word that owns it; -1 with an exception. */
static int is_owned_object(Amend *a, uintptr_t word)
{
    Py_ssize_t type = type_index(&a->walk, (PyObject *)word);
    return type < 0 ? -1 : info_at(a->walk.types.infos, type)->role == CONTAINER;
}

/* What came and went from `then` to `now`, which was just read, of object `i` (or of the roots). */
static int compare_children(Amend *a, uint32_t i, const uintptr_t *then, size_t m, const uintptr_t *now, size_t n)
{
    size_t before = 0, after = 0;
    while (before < n && before < m && now[before] == then[before])
        before++;
    while (after < n - before && after < m - before && now[n - 1 - after] == then[m - 1 - after])
        after++;
    if (m > 0 && (n + m - 2 * (before + after)) * (n + m) > MOST_COMPARED)
        return REFUSED;
    for (size_t k = before; k < m - after; k++) {
        uintptr_t word = then[k] & ~NOT_OWNED;
        if (word == 0 || refers(a, now, n, word))
            continue;
        int is_object = then[k] & NOT_OWNED ? 1 : is_owned_object(a, word);
        if (is_object < 0)
            return FAILED;
        if (!is_object)
            continue;
        Py_ssize_t object = find_object(a->new, word);
        if (object == -2)
            return FAILED;
        if (object < 0)
            return REFUSED;  /* it is opaque */
        if (parent_of(a->new, (size_t)object) == i && put_in_doubt(a, (size_t)object))
            return REFUSED;
    }
    for (size_t k = before; k < n - after; k++) {
        PyObject *o = (PyObject *)(now[k] & ~NOT_OWNED);
        if (o == NULL || is_number(a, k) || refers(a, then, m, (uintptr_t)o))
            continue;
        int is_object = now[k] & NOT_OWNED ? !is_leaf(a->base, o) : is_owned_object(a, (uintptr_t)o);
        if (is_object < 0)
            return FAILED;
        if (!is_object)
            continue;
        Py_ssize_t object = find_object(a->new, (uintptr_t)o);
        if (object == -2)
            return FAILED;
        int failed = object < 0 ? add_object(a, o, i) : WRITTEN;
        if (failed)
            return failed;
    }
    return WRITTEN;
}

/* `i` holds what was read, and not `then` any more. */
static int replace(Amend *a, size_t i, const Record *record, const Info *info, const uintptr_t *then, size_t m)
{
    size_t n = a->n;
    uintptr_t *now = own_words(a->words, n);
    if (now == NULL)
        return FAILED;
    for (size_t k = 0; k < a->nnumbers; k++)
        if (a->numbers[k] >= m || now[a->numbers[k]] != then[a->numbers[k]])
            goto refused;  /* its dictionary is another one, or its length is limited otherwise */
    Record changed = *record, old = *record;
    changed.count = (uint32_t)n;
    old.count = (uint32_t)m;
    if (append_new(a->edits, edit_of(&changed, info, now, &old, then)) < 0)
        goto failed;
    int compared = compare_children(a, (uint32_t)i, then, m, now, n);
    if (compared)
        goto refused;
    Part *part = part_of(a->new, i);
    if (part == NULL)
        goto refused;
    drop_words(part->words, part->record.count);  /* `then` may be among them */
    part->words = now;
    part->record.count = (uint32_t)n;
    return WRITTEN;
refused:
    drop_words(now, n);
    return PyErr_Occurred() ? FAILED : REFUSED;
failed:
    drop_words(now, n);
    return FAILED;
}

static int compare_object(Amend *a, size_t i, const Record *record, const uintptr_t *then, size_t n)
{
    const Info *info = info_at(a->base->infos, record->type);
    if (Py_TYPE(record->obj) != info->type)
        return REFUSED;
    Check c = {then, then + n};
    if (!words(record->obj, info, child_differs, word_differs, &c) && c.at == c.end)
        return WRITTEN;
    int failed = read_object(a, record->obj, info, then, n);
    return failed ? failed : replace(a, i, record, info, then, n);
}

/* -- all of them */

static int compare_roots(Amend *a, const Snapshot *old, PyObject *roots)
{
    size_t n = (size_t)PyTuple_GET_SIZE(roots);
    a->n = a->nnumbers = a->nthen = 0;
    for (size_t i = 0; i < n; i++)
        if (read_child(PyTuple_GET_ITEM(roots, (Py_ssize_t)i), a))
            return PyErr_Occurred() ? FAILED : REFUSED;
    if ((a->new->words = own_words(a->words, n)) == NULL)
        return FAILED;
    a->new->nwords = a->new->nroots = n;
    return compare_children(a, AT_ROOT, old->words, old->nroots, a->new->words, n);
}

/* Every object that was there, in its order; what is below one that is in doubt is in doubt. The parts change meanwhile,
   so the words of what was there are those of `old`. */
static int compare_objects(Amend *a, const Snapshot *old)
{
    Snapshot view = {.base = (Snapshot *)a->base, .nroots = old->nroots};
    if (old->base != NULL)
        view = *old;
    Cursor cursor = cursor_of(&view);
    size_t i, n;
    const uintptr_t *then;
    for (const Record *record; (record = next_object(&cursor, &i, &then, &n)) != NULL;) {
        if (i + 8 < a->base->nrecords)
            __builtin_prefetch(a->base->records[i + 8].obj);
        if (a->ndoubt > 0) {
            uint32_t parent = parent_of(a->new, i);
            if (parent != AT_ROOT && is_in_doubt(a, parent) && put_in_doubt(a, i))
                return REFUSED;
            if (is_in_doubt(a, i))
                continue;
        }
        int failed = compare_object(a, i, record, then, n);
        if (failed)
            return failed;
    }
    return WRITTEN;
}

/* What is new, and what that reaches. */
static int read_new(Amend *a, size_t *done)
{
    Snapshot *s = a->new;
    for (; *done < s->nparts - s->nchanged; ++*done) {
        size_t i = a->base->nrecords + *done;
        const Record record = *record_at(s, i);
        const Info *info = info_at(a->base->infos, record.type);
        int failed = read_object(a, record.obj, info, NULL, 0);
        if (failed)
            return failed;
        for (size_t k = 0; info->has_dict && k < a->nnumbers; k++)
            if (a->words[a->numbers[k]] == (4 | NOT_OWNED))
                return REFUSED;  /* its dictionary is an object of its own */
        uintptr_t *now = own_words(a->words, a->n);
        if (now == NULL)
            return FAILED;
        size_t n = a->n;
        s->parts[s->nchanged + *done].words = now;
        s->parts[s->nchanged + *done].record.count = (uint32_t)n;
        if ((failed = compare_children(a, (uint32_t)i, NULL, 0, now, n)))
            return failed;
        if (append_new(a->added, PyLong_FromVoidPtr(record.obj)) < 0
            || (can_be_shared(&a->walk, record.obj) && append_new(a->shared_added, PyLong_FromVoidPtr(record.obj)) < 0))
            return FAILED;
        PyObject **place = info->has_dict ? _PyObject_GetDictPtr(record.obj) : NULL;
        if (place != NULL && !is_as_none(*place)) {
            s->has_shared_dict |= Py_REFCNT(*place) > 1;
            if (append_new(a->shared_added, PyLong_FromVoidPtr(*place)) < 0)
                return FAILED;
        }
    }
    return WRITTEN;
}

/* The first object that refers to each one in doubt and is not in doubt itself, into `by`: AT_ROOT for a root. */
static int find_referrers(Amend *a, uint32_t *by, char *is_known)
{
    Snapshot *s = a->new;
    uint64_t might[4] = {0};
    for (size_t k = 0; k < a->ndoubt; k++) {
        size_t bit = hash_of(record_at(s, a->doubt[k])->obj) & 255;
        might[bit / 64] |= (uint64_t)1 << bit % 64;
    }
    memset(is_known, 0, a->ndoubt);
    Cursor cursor = cursor_of(s);
    size_t i = AT_ROOT, n = s->nroots;
    const uintptr_t *now = s->words;
    const Record *record = NULL;
    do {
        if (i != AT_ROOT && is_in_doubt(a, i))
            continue;
        const Info *info = record != NULL ? info_at(a->base->infos, record->type) : NULL;
        size_t dict = info != NULL ? place_of_dict(info) : SIZE_MAX;
        for (size_t w = 0; w < n; w++) {
            PyObject *o = (PyObject *)(now[w] & ~NOT_OWNED);
            size_t bit = hash_of(o) & 255;
            if (!(might[bit / 64] >> bit % 64 & 1) || w == dict)
                continue;
            for (size_t k = 0; k < a->ndoubt; k++)
                if (!is_known[k] && record_at(s, a->doubt[k])->obj == o) {
                    if (info != NULL && info->has_dict && dict == SIZE_MAX)
                        return REFUSED;  /* it may be the address of its dictionary */
                    is_known[k] = 1;
                    by[k] = (uint32_t)i;
                }
        }
    } while ((record = next_object(&cursor, &i, &now, &n)) != NULL);
    return WRITTEN;
}

/* What object `i` was last known to hold. Costs a pass over the objects before it. */
static const uintptr_t *known_words(const Snapshot *s, size_t i, size_t *n)
{
    const Snapshot *base = s->base;
    size_t part = i < base->nrecords ? find_changed(s, i) : s->nchanged + i - base->nrecords, at = base->nroots;
    if (i >= base->nrecords || (part < s->nchanged && s->parts[part].index == i)) {
        *n = s->parts[part].record.count;
        return s->parts[part].words;
    }
    for (size_t k = 0; k < i; k++)
        at += base->records[k].count;
    *n = base->records[i].count;
    return base->words + at;
}

/* Out of doubt, and compared. */
static int rescue(Amend *a, size_t k)
{
    size_t i = a->doubt[k], n;
    memmove(&a->doubt[k], &a->doubt[k + 1], (a->ndoubt - k - 1) * sizeof *a->doubt);
    a->ndoubt--;
    const uintptr_t *then = known_words(a->new, i, &n);
    const Record record = *record_at(a->new, i);
    return compare_object(a, i, &record, then, n);
}

/* The first one in doubt that something before it refers to, and then what is below it. Says in `rescued` if there was
   one. */
static int rescue_first(Amend *a, const uint32_t *by, const char *is_known, int *rescued)
{
    Snapshot *s = a->new;
    size_t first = 0;
    while (first < a->ndoubt && !is_known[first])
        first++;
    *rescued = first < a->ndoubt;
    if (!*rescued)
        return WRITTEN;
    if ((by[first] != AT_ROOT && by[first] >= a->doubt[first]) || s->nmoves == MOST_PARTS)
        return REFUSED;
    s->moves[s->nmoves++] = (Move){a->doubt[first], by[first]};
    int failed = rescue(a, first);
    for (size_t k = 0; !failed && k < a->ndoubt;) {
        uint32_t parent = parent_of(s, a->doubt[k]);
        size_t n = 0;
        const uintptr_t *now = parent != AT_ROOT && !is_in_doubt(a, parent) ? known_words(s, parent, &n) : NULL;
        const Info *info = n > 0 ? info_at(a->base->infos, record_at(s, parent)->type) : NULL;
        size_t w = 0, dict = info != NULL ? place_of_dict(info) : SIZE_MAX;
        if (info != NULL && info->has_dict && dict == SIZE_MAX)
            return REFUSED;  /* as above */
        while (w < n && (w == dict || (PyObject *)(now[w] & ~NOT_OWNED) != record_at(s, a->doubt[k])->obj))
            w++;
        if (w < n)
            failed = rescue(a, k);
        else
            k++;
    }
    return failed;
}

/* Whether it and its dictionary could be shared; the object may be dead, so what its record says must do. */
static int list_gone_part(Amend *a, const Record *record, const uintptr_t *words, size_t n)
{
    const Info *info = info_at(a->base->infos, record->type);
    PyTypeObject *type = info->type;
    int may_be_in_both = a->new->has_shared_dict && (info->has_dict || PyType_FastSubclass(type, Py_TPFLAGS_DICT_SUBCLASS));
    if (PyType_IsSubtype(type, &PyFunction_Type) || may_be_in_both)
        return REFUSED;
    if (append_new(a->gone, PyLong_FromVoidPtr(record->obj)) < 0)
        return FAILED;
    if (PyType_FastSubclass(type, Py_TPFLAGS_TUPLE_SUBCLASS) || PyType_IsSubtype(type, &PyFrozenSet_Type)
        || type == &PySlice_Type || type == &Py_GenericAliasType)
        return WRITTEN;
    if (append_new(a->shared_gone, PyLong_FromVoidPtr(record->obj)) < 0)
        return FAILED;
    if (!info->has_dict)
        return WRITTEN;
    if (info->body != NO_BODY || n <= info->nslots)
        return REFUSED;
    uintptr_t dict = words[info->nslots] & ~NOT_OWNED;
    if (dict == 2 || dict == 4)
        return REFUSED;
    return dict != 0 && append_new(a->shared_gone, PyLong_FromVoidPtr((void *)dict)) < 0 ? FAILED : WRITTEN;
}

static int forget_gone(Amend *a)
{
    Snapshot *s = a->new;
    Cursor cursor = cursor_of(s);
    size_t i, n, k = 0;
    const uintptr_t *now;
    for (const Record *record; k < a->ndoubt && (record = next_object(&cursor, &i, &now, &n)) != NULL;) {
        if (i != a->doubt[k])
            continue;
        k++;
        int failed = list_gone_part(a, record, now, n);
        if (failed)
            return failed;
    }
    for (k = 0; k < a->ndoubt; k++) {
        Part *part = part_of(s, a->doubt[k]);
        if (part == NULL)
            return PyErr_Occurred() ? FAILED : REFUSED;
        drop_words(part->words, part->record.count);
        part->words = NULL;
        part->record.count = 0;
        part->is_gone = 1;
    }
    return WRITTEN;
}

static int settle(Amend *a, size_t *done)
{
    uint32_t by[MOST_IN_DOUBT];
    char is_known[MOST_IN_DOUBT];
    int failed = WRITTEN;
    for (int round = 0; a->ndoubt > 0; round++) {
        if (round == ROUNDS)
            return REFUSED;
        if ((failed = find_referrers(a, by, is_known)))
            return failed;
        int rescued;
        if ((failed = rescue_first(a, by, is_known, &rescued)))
            return failed;
        if (!rescued)
            return forget_gone(a);
        if ((failed = read_new(a, done)))
            return failed;
    }
    return WRITTEN;
}

/* An address that is in both is of another object now: that is more than lists of addresses can say. */
static int is_met_twice(PyObject *added, PyObject *gone)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(added); i++) {
        int met = PySequence_Contains(gone, PyList_GET_ITEM(added, i));
        if (met)
            return met;
    }
    return 0;
}

/* The addresses that could be shared, since the base: those that are gone and those that came. */
static int keep_shared(Snapshot *s, const Snapshot *old, PyObject *added, PyObject *gone)
{
    size_t nadded = (old->base != NULL ? old->nshared : 0) + (size_t)PyList_GET_SIZE(added);
    size_t ngone = (old->base != NULL ? old->nshared_gone : 0) + (size_t)PyList_GET_SIZE(gone);
    s->shared = PyMem_RawMalloc((nadded + 1) * sizeof *s->shared);
    s->shared_gone = PyMem_RawMalloc((ngone + 1) * sizeof *s->shared_gone);
    if (s->shared == NULL || s->shared_gone == NULL) {
        PyErr_NoMemory();
        return FAILED;
    }
    for (size_t i = 0; old->base != NULL && i < old->nshared_gone; i++)
        s->shared_gone[s->nshared_gone++] = old->shared_gone[i];
    for (size_t i = 0; old->base != NULL && i < old->nshared; i++)
        s->shared[s->nshared++] = old->shared[i];
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(gone); i++) {
        uintptr_t address = (uintptr_t)PyLong_AsVoidPtr(PyList_GET_ITEM(gone, i));
        size_t at = 0;
        while (at < s->nshared && s->shared[at] != address)
            at++;
        if (at < s->nshared)
            s->shared[at] = s->shared[--s->nshared];
        else
            s->shared_gone[s->nshared_gone++] = address;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(added); i++)
        s->shared[s->nshared++] = (uintptr_t)PyLong_AsVoidPtr(PyList_GET_ITEM(added, i));
    return WRITTEN;
}

static int amend_all(Amend *a, const Snapshot *old, PyObject *roots)
{
    int failed = copy_parts(a->new, old);
    size_t done = a->new->nparts - a->new->nchanged;
    if (!failed)
        failed = compare_roots(a, old, roots);
    if (!failed)
        failed = compare_objects(a, old);
    if (!failed)
        failed = read_new(a, &done);
    if (!failed)
        failed = settle(a, &done);
    for (size_t i = 0; !failed && i < a->base->nleaves; i++)
        failed = Py_TYPE(a->base->leaves[i].obj) != a->base->leaves[i].type ? REFUSED : WRITTEN;
    if (!failed)
        failed = is_met_twice(a->added, a->gone) || is_met_twice(a->shared_added, a->shared_gone) ? REFUSED : WRITTEN;
    if (!failed)
        failed = keep_shared(a->new, old, a->shared_added, a->shared_gone);
    return PyErr_Occurred() ? FAILED : failed;
}

/* amend(old, roots, live, atoms): (snapshot, difference); None if a whole snapshot must be taken. */
static PyObject *amend(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *given, *roots, *live, *atoms, *found = NULL, *held = NULL;
    if (!PyArg_ParseTuple(args, "O!O!O!O!:amend", snapshot_type, &given, &PyTuple_Type, &roots, &PyDict_Type, &live,
                          &PyTuple_Type, &atoms))
        return NULL;
    Snapshot *old = (Snapshot *)given, *base = old->base != NULL ? old->base : old;
    if (old->nroots == SIZE_MAX || base->nroots == SIZE_MAX || base->parents == NULL)
        Py_RETURN_NONE;
    Snapshot *s = PyObject_GC_New(Snapshot, snapshot_type);
    if (s == NULL)
        return NULL;
    memset((char *)s + sizeof(PyObject), 0, sizeof *s - sizeof(PyObject));
    s->base = (Snapshot *)Py_NewRef(base);
    s->has_shared_dict = old->has_shared_dict;
    Amend a = {.new = s, .base = base, .old = old, .walk = {.live = live, .atoms = atoms}};
    int collects = PyGC_Disable(), failed = FAILED;
    a.edits = PyList_New(0);
    a.added = PyList_New(0);
    a.gone = PyList_New(0);
    a.shared_added = PyList_New(0);
    a.shared_gone = PyList_New(0);
    a.doubt = PyMem_RawMalloc(MOST_IN_DOUBT * sizeof *a.doubt);
    a.walk.types.mask = 4 * BASES_ROOM - 1;
    a.walk.types.cells = PyMem_RawMalloc(sizeof base_cells);
    if (a.doubt == NULL || a.walk.types.cells == NULL)
        PyErr_NoMemory();
    else if (a.edits && a.added && a.gone && a.shared_added && a.shared_gone) {
        memcpy(a.walk.types.cells, base_cells, sizeof base_cells);
        failed = amend_all(&a, old, roots);
        if (!failed && base->nleaves > 0 && (held = hold_leaves(base)) == NULL)
            failed = FAILED;
    }
    if (collects)
        PyGC_Enable();
    if (!failed && held != NULL) {
        int differ = tokens_differ(base, held);
        failed = differ < 0 ? FAILED : differ ? REFUSED : WRITTEN;
    }
    PyObject_GC_Track(s);
    if (!failed)
        found = Py_BuildValue("O(OOOOO)", s, a.edits, a.added, a.gone, a.shared_added, a.shared_gone);
    Py_XDECREF(held);
    Py_XDECREF(a.edits);
    Py_XDECREF(a.added);
    Py_XDECREF(a.gone);
    Py_XDECREF(a.shared_added);
    Py_XDECREF(a.shared_gone);
    PyMem_RawFree(a.doubt);
    PyMem_RawFree(a.words);
    PyMem_RawFree(a.walk.types.cells);
    free_infos(a.walk.types.infos, a.walk.types.count);
    Py_DECREF(s);
    if (failed == REFUSED)
        Py_RETURN_NONE;
    return found;
}
