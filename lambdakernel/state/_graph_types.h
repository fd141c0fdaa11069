/* What is known of types, and which words make up the value of an object. Included by _graph.c. */

enum { ATOM, CONTAINER, OPAQUE, FUNCTION, BUILTIN, MOMENT, WEAKREF, MODULE };
enum { NO_BODY, VALUE_BODY, LIST_BODY, TUPLE_BODY, DICT_BODY, SET_BODY, FUNCTION_BODY, METHOD_BODY, BUILTIN_BODY,
       CELL_BODY, DEQUE_BODY, ODICT_BODY, WEAKREF_BODY, VIEW_BODY };

typedef struct {
    PyTypeObject *type;
    Py_ssize_t *slots;   /* offsets of fields that hold an object or NULL */
    uint16_t nslots;
    uint8_t role;        /* ATOM ... MODULE */
    uint8_t body;        /* how the part below the slots is read */
    uint8_t owned;       /* its words are not its whole value */
    uint8_t has_dict;
} Info;

typedef struct {
    uint32_t *cells;     /* index into `infos` + 1; 0 is free */
    size_t mask;
    Info *infos;
    size_t count, room;
} Types;

#define BASES_ROOM 128
static Info bases[BASES_ROOM];
static uint32_t base_cells[4 * BASES_ROOM];
static size_t nbases;
static traverseproc class_traverse;  /* of a class that a class statement made */
static PyTypeObject *deque_type, *enum_type, *finalizer_type;
static PyGetSetDef *deque_maxlen;

typedef struct odict_node {
    PyObject *key;
    Py_hash_t hash;
    struct odict_node *next, *prev;
} ODictNode;

typedef struct {
    PyDictObject dict;
    ODictNode *first, *last;
    ODictNode **fast_nodes;
    Py_ssize_t fast_nodes_size;
    void *resize_sentinel;
    size_t state;
    PyObject *inst_dict, *weakreflist;
} ODict;

typedef struct {
    PyObject_HEAD
    PyObject *dict;
} DictView;

static inline size_t hash_of(const void *p)
{
    return (size_t)(((uintptr_t)p >> 4) * (uintptr_t)0x9E3779B97F4A7C15u >> 20);
}

/* -- the words of an object; `visit` gets children, `word` gets numbers and addresses that are not visited */

typedef int (*wordproc)(uintptr_t, void *);

#define VISIT(o) do { if (visit((PyObject *)(o), arg)) return 1; } while (0)
#define WORD(w) do { if (word((uintptr_t)(w), arg)) return 1; } while (0)

static inline __attribute__((always_inline)) int dict_words(PyObject *dict, visitproc visit, void *arg)
{
    Py_ssize_t pos = 0;
    PyObject *key, *value;
    while (PyDict_Next(dict, &pos, &key, &value)) {
        VISIT(key);
        VISIT(value);
    }
    return 0;
}

/* Whether it is as if there were none: an empty dictionary that nobody else refers to is made by looking for it. */
static inline int is_as_none(PyObject *dict)
{
    return dict == NULL || (PyDict_CheckExact(dict) && PyDict_GET_SIZE(dict) == 0 && Py_REFCNT(dict) == 1);
}

static inline uintptr_t identity_of(PyObject *instance_dict)
{
    if (is_as_none(instance_dict))
        return 0;
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030D0000
    if (Py_REFCNT(instance_dict) == 1)
        return 2;  /* nobody else refers to it; this Python drops such a one when an attribute is read, and makes another */
#endif
    return (uintptr_t)instance_dict;
}

static inline int function_words(PyFunctionObject *f, visitproc visit, wordproc word, void *arg)
{
    WORD(f->func_globals);
    VISIT(f->func_code);
    VISIT(f->func_name);
    VISIT(f->func_qualname);
    VISIT(f->func_defaults);
    VISIT(f->func_kwdefaults);
    VISIT(f->func_closure);
    VISIT(f->func_doc);
    VISIT(is_as_none(f->func_dict) ? NULL : f->func_dict);
    VISIT(is_as_none(f->func_annotations) ? NULL : f->func_annotations);
    VISIT(f->func_module);
#if PY_VERSION_HEX >= 0x030C0000
    VISIT(f->func_typeparams);
#endif
#if PY_VERSION_HEX >= 0x030E0000
    VISIT(f->func_annotate);
#endif
    return 0;
}

static inline PyObject *weakref_target(PyObject *ref)
{
    PyObject *target = ((PyWeakReference *)ref)->wr_object;
    return target != NULL && Py_REFCNT(target) > 0 ? target : Py_None;
}

static inline __attribute__((always_inline)) int words(
    PyObject *o, const Info *info, visitproc visit, wordproc word, void *arg)
{
    switch (info->body) {
    case LIST_BODY:
        for (Py_ssize_t i = 0, n = Py_SIZE(o); i < n; i++)
            VISIT(((PyListObject *)o)->ob_item[i]);
        break;
    case TUPLE_BODY:
        for (Py_ssize_t i = 0, n = Py_SIZE(o); i < n; i++)
            VISIT(((PyTupleObject *)o)->ob_item[i]);
        break;
    case DICT_BODY:
        if (dict_words(o, visit, arg))
            return 1;
        break;
    case SET_BODY: {
        PySetObject *set = (PySetObject *)o;
        for (Py_ssize_t i = 0; i <= set->mask; i++)
            if (set->table[i].key != NULL && set->table[i].hash != -1)
                VISIT(set->table[i].key);
        break;
    }
    case FUNCTION_BODY:
        if (function_words((PyFunctionObject *)o, visit, word, arg))
            return 1;
        break;
    case METHOD_BODY:
        VISIT(PyMethod_GET_FUNCTION(o));
        VISIT(PyMethod_GET_SELF(o));
        break;
    case BUILTIN_BODY:
        WORD(((PyCFunctionObject *)o)->m_ml);
        VISIT(((PyCFunctionObject *)o)->m_self);
        VISIT(((PyCFunctionObject *)o)->m_module);
        break;
    case CELL_BODY:
        VISIT(PyCell_GET(o));
        break;
    case DEQUE_BODY: {
        PyObject *limit = deque_maxlen->get(o, deque_maxlen->closure);
        if (limit == NULL) {
            PyErr_Clear();
            return 1;
        }
        WORD(limit == Py_None ? 0 : (uintptr_t)(PyLong_AsSsize_t(limit) + 1) << 1);
        Py_DECREF(limit);
        if (deque_type->tp_traverse(o, visit, arg))
            return 1;
        break;
    }
    case ODICT_BODY:
        if (dict_words(o, visit, arg))
            return 1;
        for (ODictNode *node = ((ODict *)o)->first; node != NULL; node = node->next)
            VISIT(node->key);
        break;
    case WEAKREF_BODY:
        VISIT(weakref_target(o));
        VISIT(((PyWeakReference *)o)->wr_callback);
        break;
    case VIEW_BODY:
        VISIT(((DictView *)o)->dict);
        break;
    }
    for (uint16_t i = 0; i < info->nslots; i++)
        VISIT(*(PyObject **)((char *)o + info->slots[i]));
    if (info->has_dict) {
        PyObject **place = _PyObject_GetDictPtr(o);
        PyObject *dict = place != NULL ? *place : NULL;
        if (dict == NULL || PyDict_CheckExact(dict)) {
            WORD(identity_of(dict));
            if (dict != NULL && dict_words(dict, visit, arg))
                return 1;
        } else {
            WORD(4);
            VISIT(dict);
        }
    }
    return 0;
}

/* -- types */

static size_t find_cell(const uint32_t *cells, size_t mask, const Info *infos, PyTypeObject *type)
{
    size_t at = hash_of(type) & mask;
    while (cells[at] != 0) {
        uint32_t i = cells[at] - 1;
        if ((i < nbases ? &bases[i] : &infos[i - nbases])->type == type)
            break;
        at = (at + 1) & mask;
    }
    return at;
}

static inline const Info *info_at(const Info *infos, size_t i)
{
    return i < nbases ? &bases[i] : &infos[i - nbases];
}

static const Info *base_info(PyTypeObject *type)
{
    size_t at = find_cell(base_cells, 4 * BASES_ROOM - 1, NULL, type);
    return base_cells[at] != 0 ? &bases[base_cells[at] - 1] : NULL;
}

/* Whether `type` adds nothing to its base but slots, a dictionary and weak references; says where the slots are. */
static int is_plain_layer(PyTypeObject *type, Py_ssize_t *slots, Py_ssize_t *nslots, Py_ssize_t room)
{
    PyTypeObject *base = type->tp_base;
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE) || base == NULL || type->tp_itemsize != base->tp_itemsize)
        return 0;
    Py_ssize_t left = type->tp_basicsize - base->tp_basicsize;
    if (left == 0)  /* a tuple may have items beyond its length, as time.struct_time has */
        return type->tp_itemsize == 0 || !PyType_IS_GC(type) || type->tp_traverse == class_traverse;
    if (left < 0 || type->tp_traverse != class_traverse)
        return 0;
    if (type->tp_dictoffset != 0 && base->tp_dictoffset == 0 && !(type->tp_flags & Py_TPFLAGS_MANAGED_DICT))
        left -= sizeof(PyObject *);
    if (type->tp_weaklistoffset > 0 && base->tp_weaklistoffset == 0)
        left -= sizeof(PyObject *);
    for (PyMemberDef *m = type->tp_members; m != NULL && m->name != NULL; m++) {
        if (m->type != MEMBER_OBJECT_EX || m->offset < base->tp_basicsize || *nslots == room)
            return 0;
        slots[(*nslots)++] = m->offset;
        left -= sizeof(PyObject *);
    }
    return left == 0;
}

#define SLOTS_ROOM 256

/* What is known of a type that is not in the table of bases. Returns 0, or -1 with an exception. */
static int study(PyTypeObject *type, PyObject *atoms, Info *info)
{
    Py_ssize_t slots[SLOTS_ROOM], nslots = 0;
    *info = (Info){.type = type, .role = OPAQUE};
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(atoms); i++)
        if (PyTuple_GET_ITEM(atoms, i) == (PyObject *)type) {
            info->role = ATOM;
            return 0;
        }
    if (PyType_FastSubclass(type, Py_TPFLAGS_TYPE_SUBCLASS) || PyType_IsSubtype(Py_TYPE(type), enum_type)) {
        info->role = ATOM;  /* a class, or a member of an enumeration, which is part of its class */
        return 0;
    }
    if (PyType_IsSubtype(type, finalizer_type))
        return 0;  /* what it is to call is kept by its class */
    PyTypeObject *below = type;
    const Info *base = NULL;
    while (below != NULL && (base = base_info(below)) == NULL) {
        if (!is_plain_layer(below, slots, &nslots, SLOTS_ROOM))
            return 0;
        below = below->tp_base;
    }
    if (base == NULL || (base->role != CONTAINER && base->role != WEAKREF && base->body != VALUE_BODY))
        return 0;
    if (nslots + base->nslots > SLOTS_ROOM)
        return 0;
    for (uint16_t i = 0; i < base->nslots; i++)
        slots[nslots++] = base->slots[i];
    if (nslots > 0) {
        info->slots = PyMem_RawMalloc(nslots * sizeof *slots);
        if (info->slots == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memcpy(info->slots, slots, nslots * sizeof *slots);
    }
    info->nslots = (uint16_t)nslots;
    info->has_dict = type->tp_dictoffset != 0 || (type->tp_flags & Py_TPFLAGS_MANAGED_DICT);
    info->body = base->body;
    info->owned = base->owned || base->body == VALUE_BODY;
    info->role = base->body != VALUE_BODY ? base->role : nslots > 0 || info->has_dict ? CONTAINER : ATOM;
    return 0;
}

static void free_infos(Info *infos, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        PyMem_RawFree(infos[i].slots);
        Py_DECREF(infos[i].type);
    }
    PyMem_RawFree(infos);
}

static int grow_types(Types *types)
{
    size_t size = 2 * (types->mask + 1);
    uint32_t *cells = PyMem_RawCalloc(size, sizeof *cells);
    if (cells == NULL)
        return -1;
    for (size_t i = 0; i < nbases + types->count; i++)
        cells[find_cell(cells, size - 1, types->infos, info_at(types->infos, i)->type)] = (uint32_t)i + 1;
    PyMem_RawFree(types->cells);
    types->cells = cells;
    types->mask = size - 1;
    return 0;
}

/* Index of what is known of `type`; -1 with an exception. */
static Py_ssize_t learn_type(Types *types, PyTypeObject *type, PyObject *atoms)
{
    if (2 * (nbases + types->count + 1) > types->mask && grow_types(types) < 0)
        goto no_memory;
    if (types->count == types->room) {
        size_t room = types->room ? 2 * types->room : 8;
        Info *infos = PyMem_RawRealloc(types->infos, room * sizeof *infos);
        if (infos == NULL)
            goto no_memory;
        types->infos = infos;
        types->room = room;
    }
    if (study(type, atoms, &types->infos[types->count]) < 0)
        return -1;
    types->cells[find_cell(types->cells, types->mask, types->infos, type)] = (uint32_t)(nbases + types->count) + 1;
    Py_INCREF(type);
    return (Py_ssize_t)(nbases + types->count++);
no_memory:
    PyErr_NoMemory();
    return -1;
}
